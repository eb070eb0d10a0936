"""Fine-tuning: by default from models/base, on balanced data, at a lower rate."""

from pipeline.params import Params
from pipeline.stages._paths import TUNED
from pipeline.stages._training import train_stage


def run(params: Params) -> None:
    """Write models/tuned, by the recipe of finetune."""
    train_stage(params, "finetune", TUNED.name)
