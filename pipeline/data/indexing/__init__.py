"""Which images can be used, and which resemble each other."""
