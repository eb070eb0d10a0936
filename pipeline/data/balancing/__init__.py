"""Synthetic images of the rare classes."""
