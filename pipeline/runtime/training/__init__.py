"""A training from params to a bundle."""
