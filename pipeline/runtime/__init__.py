"""Every side effect outside the repository: Ray, MLflow and the model registry."""
