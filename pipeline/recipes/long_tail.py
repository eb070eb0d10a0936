"""From random weights, for classes of very different sizes.

The balanced softmax from the first epoch on (Ren et al. 2020), as strong augmentation as the length
bears, then the classifier alone on balanced batches with label-aware smoothing (Zhong et al. 2021).
Where all classes are alike, the balanced softmax is the plain one.
"""

from typing import Any

from pipeline.recipes.facts import Facts

EPOCHS = 200
_HEAD_EPOCHS = 10
_WARMUP_EPOCHS = 5
# Shorter trainings than this have no time for AutoAugment. CIFAR-10 with a tail of 1 : 100,
# balanced accuracy on held-out training images: 20 epochs of SGD 0.671 without, 0.585 with it and
# cutout; with them 60 epochs of Muon 0.769.
_SHORT_EPOCHS = 50
_MOST_IMAGES_PER_STEP = 128
_STEPS_PER_EPOCH = 20
_MOVES = {"degrees": 12.0, "translate": 0.1, "scale": [0.85, 1.15], "shear": 8.0}


def base(facts: Facts, epochs: int) -> dict[str, Any]:
    """Return what the section train gets, for so many epochs."""
    return {
        "images": "data/packed/train",
        "trainable": "all",
        "epochs": epochs,
        "global_batch_size": batch_size(facts),
        "optimizer": _optimizer(facts),
        "schedule": {"name": "cosine", "warmup_epochs": min(_WARMUP_EPOCHS, epochs / 10)},
        "loss": loss(facts),
        "augment": _augment(facts, epochs),
        "early_stopping": last_epoch(epochs),
    }


def head(facts: Facts) -> dict[str, Any]:
    """Return what the section finetune gets."""
    smooth = facts.imbalance > 1
    return {
        "images": "data/packed/train",
        "weights": "models/base",
        "trainable": "head",
        "epochs": _HEAD_EPOCHS,
        "global_batch_size": batch_size(facts),
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "loss": {"name": "cross_entropy"},
        "label_smoothing": 0.3 if smooth else 0.0,
        "tail_smoothing": 0.0 if smooth else None,
        "sampler": {"name": "balanced"},
        "augment": [],
        "early_stopping": last_epoch(_HEAD_EPOCHS),
    }


def _optimizer(facts: Facts) -> dict[str, Any]:
    if facts.normed:
        # In 20 epochs of the images above 0.705 instead of SGD's 0.671.
        return {"name": "muon", "lr": 3e-3, "momentum": 0.9, "weight_decay": 0.1}
    # Without norms a rate that suits a few layers lets many diverge; AdamW scales its steps.
    return {"name": "adamw", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.05}


def batch_size(facts: Facts) -> int:
    """Return the images of a step: a power of 2, fewer where there are few images."""
    size = _MOST_IMAGES_PER_STEP
    while size > 16 and facts.images < size * _STEPS_PER_EPOCH:
        size //= 2
    return size


def loss(facts: Facts) -> dict[str, Any]:
    """Return a loss that suits the metric: accuracy counts the classes as often as they are."""
    return {"name": "cross_entropy" if facts.metric == "accuracy" else "balanced_softmax"}


def _augment(facts: Facts, epochs: int) -> list[dict[str, Any]]:
    """Return changes that leave the class, as far as can be told, as strong as the length bears.

    What may be mirrored is taken for photographs, on which AutoAugment's policy was searched. Where
    left and right matter, shapes do: these are turned, scaled and sheared a little. Embedded
    digits, lenet5, balanced accuracy on digits that are not in the sample, 200 epochs: windows
    0.958, with AutoAugment and cutout 0.966, these moves 0.971, with cutout 0.980.
    """
    hidden: dict[str, Any] = {"cutout": {"size": max(1, facts.side // 2)}}
    if not facts.mirrored:
        return [{"affine": _MOVES}, hidden]
    windows: list[dict[str, Any]] = [
        {"crop": {"padding": max(1, round(facts.side / 8))}},
        {"hflip": {}},
    ]
    return windows if epochs < _SHORT_EPOCHS else [*windows, {"auto_augment": {}}, hidden]


def last_epoch(epochs: int) -> dict[str, Any]:
    """Return what keeps the last epoch: at the end of a schedule it is the best but for chance."""
    return {"metric": "macro_f1", "patience": epochs, "min_delta": 0.0, "keep": "last"}
