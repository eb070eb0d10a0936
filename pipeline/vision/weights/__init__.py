"""Weights to start from: files, bundles, and those that torchvision publishes."""

from pipeline.vision.weights.loading import Loaded, load_tensors, load_weights, weights_file
from pipeline.vision.weights.published import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Published,
    is_published,
    per_channel,
    published_weights,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Loaded",
    "Published",
    "is_published",
    "load_tensors",
    "load_weights",
    "per_channel",
    "published_weights",
    "weights_file",
]
