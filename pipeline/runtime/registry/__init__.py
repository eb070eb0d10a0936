"""The model registry: versions, aliases, promotion, the served model."""
