"""One augmentation of each kind, for tests of what they do and of what they accept."""

import numpy as np
import torch

from pipeline.params import parse
from pipeline.params.choices.augmentations import Augmentations
from pipeline.vision.training import augment as batch_augment
from pipeline.vision.training.augment import Augment

HFLIP = {"hflip": {"p": 0.5}}
VFLIP = {"vflip": {"p": 0.5}}
CROP = {"crop": {"padding": 3}}
AFFINE = {"affine": {"degrees": 30, "translate": 0.2, "scale": [0.7, 1.4], "shear": 20}}
COLOR = {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}}
GREY = {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0, "hue": 0}}
NOISE = {"noise": {"std": 0.1}}
ERASE = {"erase": {"p": 0.7, "area": [0.1, 0.3]}}
CUTOUT = {"cutout": {"size": 4}}
AUTO, TRIVIAL = {"auto_augment": {}}, {"trivial_augment": {}}
ALL = [HFLIP, VFLIP, CROP, AFFINE, COLOR, NOISE, ERASE, CUTOUT, AUTO, TRIVIAL]


def build_augment(items: list[dict[str, object]], shape: tuple[int, int, int]) -> Augment:
    """Build augmentations from items as params.yaml has them."""
    return batch_augment.build_augment(parse(Augmentations, items), shape)


def draw(augment: Augment, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw for a batch of `count` images, as tensors."""
    drawn = augment.draw(count, np.random.default_rng(seed))
    return {name: torch.from_numpy(values) for name, values in drawn.items()}
