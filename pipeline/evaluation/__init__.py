"""Metrics, intervals, retrieval and pictures from plain arrays."""
