"""What a trained model consists of."""
