"""The first training: from scratch, or from the weights that train.weights names."""

from pipeline.params import Params
from pipeline.stages._paths import BASE
from pipeline.stages._training import train_stage


def run(params: Params) -> None:
    """Write models/base, by the recipe of train."""
    train_stage(params, "train", BASE.name)
