"""Metrics with their intervals, from labels and posteriors."""
