"""Small bundles that classify well or badly, without a training."""

from pathlib import Path

import numpy as np
import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import embeddings
from tests.bundles import save_bundle

BLOCK = {"filters": 8, "kernel": 3, "pool": {"kind": "max", "size": 2}}


def fit_bundle(
    folder: Path,
    images: ImageSet,
    *,
    seed: int = 0,
    blind_to: int | None = None,
    wrong: float = 0.0,
    sharpness: float = 20.0,
) -> Path:
    """Fit the head of a random network to the images by least squares, and save it all.

    Args:
        folder: of the bundle.
        images: to be right on.
        seed: of the random weights.
        blind_to: a class that is never answered.
        wrong: noise in the head, in multiples of its own spread; 1 is useless.
        sharpness: what the logits are multiplied by.
    """
    torch.manual_seed(seed)
    args = {"blocks": [BLOCK], "dense": []}
    info = images.info
    description = Description("plain", args, info.classes, info.preprocessing, (0.3,), (0.3,))
    network = description.build()
    save_bundle(folder, description, network.state_dict())
    features = embeddings(load_bundle(folder), images.batches(256)).astype(np.float64)
    features = np.hstack([features, np.ones((len(features), 1))])
    targets = np.eye(len(info.classes))[images.labels] - 1 / len(info.classes)
    gram = features.T @ features + 1e-1 * len(features) * np.eye(features.shape[1])
    head = np.linalg.solve(gram, features.T @ targets) * sharpness
    head += np.random.default_rng(seed).normal(0, wrong * head.std(), head.shape)
    if blind_to is not None:
        head[-1, blind_to] -= 1000
    weights = network.state_dict()
    weights["head.weight"] = torch.tensor(head[:-1].T, dtype=torch.float32)
    weights["head.bias"] = torch.tensor(head[-1], dtype=torch.float32)
    save_bundle(folder, description, weights)
    return folder
