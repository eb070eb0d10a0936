"""What the tracking store is told of a training before it starts: name, params, tags, data sets.

Only text, made from params and packed sets: nothing here knows MLflow. A base and a tuned run have
the same names of params (how they were trained stands under `recipe`), so that they share columns.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import images_digest
from pipeline.params import Params, Training
from pipeline.params.augmentations import Augmentation
from pipeline.runtime.tracking.store import BUNDLE_TAG, STAGE_TAG
from pipeline.runtime.tracking.trained import Trained
from pipeline.vision.bundle.digest import WEIGHTS_FILE, bundle_digest, values_digest, weights_digest

WEIGHTS_TAG = "convoy.weights"
DATA_TAG = "convoy.data"
RECIPE_TAG = "convoy.recipe"

_SECTIONS = ("data", "sample", "index", "split", "pack", "balance", "model")
_RESOURCES = (
    "workers",
    "cpus_per_worker",
    "gpus_per_worker",
    "threads",
    "precision",
    "sync_batch_norm",
)
# Their keys are the user's own words, which a store may refuse as names.
_WHOLE = {"balance.per_class"}
_MAX_VALUE = 6000  # characters: MLflow's limit for a param
_MAX_DIGEST = 36  # MLflow's limit for a data set


@dataclass(frozen=True)
class RunFacts:
    """What a run is opened with.

    Attributes:
        name: as a list of runs shows it; the same for the same recipe, network, images and
            first weights.
        params: flat.
        tags: by which runs are found and grouped.
        datasets: "name", "digest", "source", "context" and "profile" (JSON text).
    """

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    datasets: list[dict[str, str]]


def gather_facts(params: Params, trained: Trained, digest: str) -> RunFacts:
    """Say what will be trained, and on what.

    Args:
        params: all of them.
        trained: the training.
        digest: of the training images, see `images_digest`.
    """
    recipe = trained.recipe.model_dump(mode="json")
    known_by = values_digest([params.section("model"), recipe, digest, _start(trained.recipe)])
    return RunFacts(
        name=f"{trained.stage} {params.model.name} {known_by[:6]}",
        params=flat_params(params, trained.recipe),
        tags={
            STAGE_TAG: trained.stage,
            "mlflow.source.name": f"convoy {trained.stage}",
            "mlflow.source.type": "LOCAL",
            RECIPE_TAG: recipe_line(params, trained.recipe),
            DATA_TAG: digest,
        },
        datasets=[
            _dataset(params, trained.images, digest, "training"),
            _dataset(
                params,
                [trained.validation],
                images_digest([trained.validation]),
                "validation",
            ),
        ],
    )


def bundle_tags(bundle: Path) -> dict[str, str]:
    """Return the tags by which the run of a trained model is found.

    Other bundles may hold the same weights, with other views and another temperature.
    """
    return {BUNDLE_TAG: bundle_digest(bundle), WEIGHTS_TAG: weights_digest(bundle)}


def best_metrics(record: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of the epoch whose weights are kept, under names of their own.

    A list of runs shows the last value of a metric, which is that of the last epoch.

    Args:
        record: of the epoch.
    """
    names = ("epoch", *(name for name in record if name.startswith("val_")))
    return {f"best_{name}": record[name] for name in names}


def flat_params(params: Params, recipe: Training) -> dict[str, str]:
    """Return all that a training depends on: names with dots, values as params.yaml has them."""
    resources = params.section("resources")
    nested = {
        **{name: params.section(name) for name in _SECTIONS},
        "recipe": recipe.model_dump(mode="json"),
        "resources": {name: resources[name] for name in _RESOURCES},
    }
    return {name: _text(value) for name, value in _flat(nested, "")}


def recipe_line(params: Params, recipe: Training) -> str:
    """Say how a network is trained, as one would tell a colleague: without what is switched off."""
    optimizer, loss, sampler = recipe.optimizer, recipe.loss.name, recipe.sampler.name
    rate = f"{optimizer.name} {optimizer.lr:g} {recipe.schedule.name}"
    parts = {
        params.model.name: True,
        f"from {recipe.weights}": recipe.weights is not None,
        f"{recipe.trainable} only": recipe.trainable == "head",
        "unfrozen gradually": recipe.trainable == "gradual",
        "balanced images": recipe.images == "data/balanced",
        f"{recipe.epochs} epochs": True,
        f"batch {recipe.global_batch_size}": True,
        rate: True,
        loss: loss != "cross_entropy",
        f"{sampler} sampler": sampler != "natural",
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing > 0,
        f"augment {_names(recipe.augment)}": len(recipe.augment) > 0,
        f"mixup {recipe.mixup_alpha:g}": recipe.mixup_alpha > 0,
        f"cutmix {recipe.cutmix_alpha:g}": recipe.cutmix_alpha > 0,
        f"ema {recipe.ema_decay:g}": recipe.ema_decay > 0,
        f"clip {recipe.clip_norm:g}": recipe.clip_norm > 0,
    }
    return ", ".join(part.replace("_", " ") for part, told in parts.items() if told)


def _start(recipe: Training) -> str | None:
    """Tell apart the weights of a bundle, whose name stays the same; others go by their name."""
    bundle = Path(recipe.weights) if recipe.weights else None
    return weights_digest(bundle) if bundle and (bundle / WEIGHTS_FILE).exists() else None


def _names(items: Sequence[Augmentation]) -> str:
    return "+".join(item.key for item in items)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name not in _WHOLE:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}\u2026"


def _dataset(params: Params, folders: Sequence[Path], digest: str, context: str) -> dict[str, str]:
    """Describe a packed set as the store keeps it."""
    images = ImageSet.open(*folders)
    classes = images.info.classes
    counts = np.bincount(images.labels, minlength=len(classes)).tolist()
    height, width, channels = images.info.shape
    profile = {
        "images": len(images),
        "height": height,
        "width": width,
        "channels": channels,
        "classes": dict(zip(classes, counts, strict=True)),
    }
    return {
        "name": f"{_data_name(params)} {context}",
        "digest": digest[:_MAX_DIGEST],
        "source": " + ".join(str(folder) for folder in folders),
        "context": context,
        "profile": json.dumps(profile, ensure_ascii=False),
    }


def _data_name(params: Params) -> str:
    """Name the images: the embedded or downloaded set, or the folder or manifest."""
    root = Path(params.data.root)
    return params.sample.source if root == Path("data/sample") else root.resolve().name
