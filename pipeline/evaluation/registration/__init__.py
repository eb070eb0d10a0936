"""What became of a candidate in the registry: as a report, and as MLflow shows it."""
