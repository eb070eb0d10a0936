"""Stages that run as jobs of a Ray cluster: what travels there, and what comes back."""
