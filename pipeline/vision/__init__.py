"""Networks, training and prediction in plain torch: no Ray, MLflow, params.yaml or stdout."""
