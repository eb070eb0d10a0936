"""Pictures. Each function takes plain values and returns a matplotlib figure."""
