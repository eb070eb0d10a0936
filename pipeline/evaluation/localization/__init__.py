"""How well boxes and maps find the object of an image."""
