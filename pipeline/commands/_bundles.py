"""The models that commands for people are given by name."""

import os
from pathlib import Path

from pipeline.params import Tracking, load_params


def locate_bundle(model: str) -> Path:
    """Return the folder of a bundle that is named as a folder, an MLflow run or models:/NAME@ALIAS.

    Raises:
        PipelineError: no such model in the store.
    """
    from pipeline.runtime.registry.versions import find_bundle, in_store

    if not in_store(model):
        return Path(model)
    # With a server, no params.yaml is needed: a model is used far from where it was made.
    server = os.environ.get("MLFLOW_TRACKING_URI")
    own = (
        Tracking(uri=server, experiment="any", system_metrics=False, checkpoints="off")
        if server
        else None
    )
    return find_bundle(model, own or load_params().tracking)
