"""Where images come from: which there are, and their bytes."""
