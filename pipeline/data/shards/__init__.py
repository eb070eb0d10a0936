"""Packed images on disk."""
