"""From pretrained weights: the head solved on cached features, then everything tuned from there.

A solved head spoils less of what was learnt than a random one (Kumar et al. 2022), rates that fall
towards the input likewise (Howard and Ruder 2018).
"""

import math
from typing import Any

from pipeline.recipes.facts import Facts
from pipeline.recipes.long_tail import last_epoch, loss

# Down to 1e-4 of the loss, see `penalty_at`.
_PENALTIES = 9
_STEPS = 500
_FEWEST_EPOCHS = 4
_IMAGES_PER_STEP = 32
_MOVES: list[dict[str, Any]] = [
    {"affine": {"degrees": 15.0, "translate": 0.1, "scale": [0.8, 1.2], "shear": 8.0}}
]
# Smaller images than this lose what the first epochs could learn from them.
_SMALLEST_SIDE = 64


def probe(facts: Facts) -> dict[str, Any]:
    """Return what the section train gets."""
    return {
        "images": "data/packed/train",
        "trainable": "probe",
        "epochs": _PENALTIES,
        "loss": loss(facts),
        "augment": [],
        "early_stopping": {
            "metric": facts.metric,
            "patience": _PENALTIES,
            "min_delta": 0.0,
            "keep": "best",
        },
    }


def tuned(facts: Facts, epochs: int) -> dict[str, Any]:
    """Return what the section finetune gets, for so many epochs."""
    small_first = facts.any_size and facts.side >= _SMALLEST_SIDE and epochs > 1
    steps = epochs * steps_per_epoch(facts)
    return {
        "images": "data/packed/train",
        "weights": "models/base",
        "trainable": "all",
        "epochs": epochs,
        "global_batch_size": _IMAGES_PER_STEP,
        "optimizer": {
            "name": "adamw",
            "lr": 2e-3,
            "momentum": 0.9,
            "weight_decay": 0.05,
            "layer_decay": 0.8,
        },
        "schedule": {"name": "cosine", "warmup_epochs": epochs / 10},
        "loss": loss(facts),
        "label_smoothing": 0.1,
        "augment": _MOVES + [{"hflip": {}}] * facts.mirrored,
        "resizing": {"name": "progressive"} if small_first else {"name": "none"},
        # An average over the last tenth of the steps.
        "ema_decay": 1 - 1 / max(10.0, steps / 10),
        "early_stopping": last_epoch(epochs),
    }


def epochs_for(facts: Facts) -> int:
    """Return the epochs of a tuning whose time is not limited."""
    return max(_FEWEST_EPOCHS, math.ceil(_STEPS / steps_per_epoch(facts)))


def steps_per_epoch(facts: Facts) -> int:
    """Return the steps that take every image once."""
    return math.ceil(facts.images / _IMAGES_PER_STEP)
