"""Test-time augmentation: how many views are worth their cost."""
