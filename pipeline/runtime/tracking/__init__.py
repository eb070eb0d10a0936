"""MLflow runs: the store, what is recorded, and its delivery."""
