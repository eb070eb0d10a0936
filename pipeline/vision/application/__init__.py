"""What a model says of image files."""
