"""The one room that imports Ray: clusters, and trainings that survive their processes."""
