"""What a run begins with: name, params, tags and data sets of a training, as text.

Base and tuned runs have the same names of params, so that they share columns: how they were
trained stands under `recipe`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import images_digest
from pipeline.files import located
from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.remote import is_uri
from pipeline.runtime.tracking.provenance import provenance
from pipeline.runtime.tracking.store import BUNDLE_TAG, STAGE_TAG, WEIGHTS_TAG
from pipeline.runtime.tracking.trained import Trained
from pipeline.vision.bundle.digest import WEIGHTS_FILE, bundle_digest, values_digest, weights_digest

_SECTIONS = ("data", "sample", "index", "split", "pack", "balance", "model")
_RESOURCES = ("workers", "cpus_per_worker", "gpus_per_worker", "threads")
_WHOLE = {"balance.per_class"}  # its keys are the user's words, which a store may refuse as names
_MAX_VALUE = 6000  # characters: MLflow's limit for a param
_MAX_DIGEST = 36  # MLflow's limit for a data set


@dataclass(frozen=True)
class RunMetadata:
    """What a run begins with.

    Attributes:
        name: the same for the same recipe, network, images and first weights.
        params: flat.
        tags: by which runs are found and grouped.
        datasets: values of MLflow's `Dataset`, by context ('training', 'validation').
    """

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    datasets: dict[str, dict[str, str]]


def gather_metadata(params: Params, trained: Trained, digest: str) -> RunMetadata:
    """Describe a training whose images have this digest, see `images_digest`."""
    recipe, stage = trained.recipe.model_dump(mode="json"), trained.stage
    # The weights of a bundle change under the same name; others are known by their name.
    bundle = Path(trained.recipe.weights or "")
    start = weights_digest(bundle) if (bundle / WEIGHTS_FILE).exists() else None
    known_by = values_digest([params.section("model"), recipe, digest, start])
    held_out = images_digest([trained.validation])
    return RunMetadata(
        name=f"{stage} {params.model.name} {known_by[:6]}",
        params=flat_params(params, trained.recipe),
        tags={
            STAGE_TAG: stage,
            "mlflow.source.name": f"convoy {stage}",
            "mlflow.source.type": "LOCAL",
            "convoy.recipe": recipe_line(params, trained.recipe),
            "convoy.data": digest,
            **trained.tags,
            **provenance(trained.inputs),
        },
        datasets={
            "training": _dataset(params, trained.images, digest, "training"),
            "validation": _dataset(params, [trained.validation], held_out, "validation"),
        },
    )


def bundle_tags(bundle: Path) -> dict[str, str]:
    """Return the tags of a trained bundle; others may hold the same weights with other views."""
    return {BUNDLE_TAG: bundle_digest(bundle), WEIGHTS_TAG: weights_digest(bundle)}


def data_name(params: Params) -> str:
    """Return the name of the images' folder, manifest or sample."""
    root = params.data.root
    if Path(root) == Path("data/sample"):
        return params.sample.source
    return Path(root).name if is_uri(root) else located(root).resolve().name


def val_metrics(record: Mapping[str, float]) -> dict[str, float]:
    """Return the validation metrics of an epoch's record."""
    return {name: value for name, value in record.items() if name.startswith("val_")}


def epoch_metrics(record: Mapping[str, float]) -> dict[str, float]:
    """Return what is logged of an epoch.

    MLflow's page for comparing runs lists metrics by the alphabet, and opens its chart on the one
    that a run logged first. So speed, memory and learning rate are filed under `train/`, behind
    what models are judged by, and validation comes first.
    """
    validation = val_metrics(record)
    others = {name: value for name, value in record.items() if name not in {"epoch", *validation}}
    return validation | {
        name if name == "train_loss" else f"train/{name}": value for name, value in others.items()
    }


def best_metrics(record: Mapping[str, float]) -> dict[str, float]:
    """Return the epoch whose weights are kept, and its validation metrics, under own names.

    A list of runs shows the last value of a metric, which is that of the last epoch.
    """
    kept = {"epoch": record["epoch"], **val_metrics(record)}
    return {f"best_{name}": value for name, value in kept.items()}


def flat_params(params: Params, recipe: Training) -> dict[str, str]:
    """Return all that a training depends on: names with dots, values as params.yaml has them."""
    resources = params.section("resources")
    nested = {name: params.section(name) for name in _SECTIONS}
    nested["recipe"] = recipe.model_dump(mode="json")
    nested["resources"] = {name: resources[name] for name in _RESOURCES}
    return dict(_flat(nested, ""))


def recipe_line(params: Params, recipe: Training) -> str:
    """Describe a training in one line, without what is switched off."""
    optimizer, loss, sampler = recipe.optimizer, recipe.loss.name, recipe.sampler.name
    augmentations = "+".join(item.key for item in recipe.augment)
    parts = {
        params.model.name: True,
        f"from {recipe.weights}": recipe.weights is not None,
        "head only": recipe.trainable == "head",
        "probe": recipe.trainable == "probe",
        "unfrozen gradually": recipe.trainable == "gradual",
        "balanced images": recipe.images == "data/balanced",
        f"{recipe.epochs} epochs": True,
        f"batch {recipe.global_batch_size}": True,
        f"{optimizer.name} {optimizer.lr:g} {recipe.schedule.name}": True,
        loss: loss != "cross_entropy",
        f"{sampler} sampler": sampler != "natural",
        f"sam {optimizer.sam_rho:g}": optimizer.sam_rho > 0,
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing > 0,
        f"tail smoothing {recipe.tail_smoothing or 0:g}": recipe.tail_smoothing is not None,
        f"augment {augmentations}": len(recipe.augment) > 0,
        f"mixup {recipe.mixup_alpha:g}": recipe.mixup_alpha > 0,
        f"cutmix {recipe.cutmix_alpha:g}": recipe.cutmix_alpha > 0,
        f"{recipe.views} views": recipe.views > 1,
        f"ema {recipe.ema_decay:g}": recipe.ema_decay > 0,
        f"clip {recipe.clip_norm:g}": recipe.clip_norm > 0,
    }
    return ", ".join(part.replace("_", " ") for part, used in parts.items() if used)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name not in _WHOLE:
            yield from _flat(value, f"{name}.")
            continue
        text = value if isinstance(value, str) else _text(value)
        yield name, text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}\u2026"


def _text(value: object) -> str:
    """Write a value as params.yaml may have it.

    Of JSON that is nested, MLflow's pages would make a screen of lines.
    """
    if not isinstance(value, (list, dict)):
        return json.dumps(value)
    dumped = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return str(dumped).strip()


def _dataset(params: Params, folders: Sequence[Path], digest: str, context: str) -> dict[str, str]:
    images = ImageSet.open(*folders)
    counts = np.bincount(images.labels, minlength=len(images.info.classes)).tolist()
    profile = {"images": len(images)}
    profile |= dict(zip(("height", "width", "channels"), images.info.shape, strict=True))
    classes = dict(zip(images.info.classes, counts, strict=True))
    return {
        "name": f"{data_name(params)} {context}",
        "digest": digest[:_MAX_DIGEST],
        "source_type": "local",
        "source": json.dumps({"uri": " + ".join(str(folder) for folder in folders)}),
        "profile": json.dumps({**profile, "classes": classes}, ensure_ascii=False),
    }
