"""Hand-crafted features and a classical classifier."""
