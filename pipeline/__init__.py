"""Convoy: image classifiers trained as a workflow."""

__version__ = "0.1.0"
