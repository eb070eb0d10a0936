"""What a model says of packed images."""
