"""The table of transforms in params equals what the installed albumentations accepts."""

import inspect

import pytest

from pipeline.data.balancing.augment import Augmenter, _albumentations
from pipeline.params._augmentations import AUGMENTATIONS

# Of masks and keypoints, which we do not have, and the size, which is that of the packed images.
NOT_OURS = {"fill_mask", "keypoint_remapping_method", "size"}


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"Superimpose"}))
def test_arguments_are_those_of_albumentations(name):
    parameters = inspect.signature(getattr(_albumentations(), name).__init__).parameters
    expected = {p for p in parameters if p != "self" and not p.startswith("mask_")} - NOT_OURS
    assert AUGMENTATIONS[name] == expected


def test_superimpose_takes_what_the_table_says():
    assert AUGMENTATIONS["Superimpose"] == {"weight", "p"}
    Augmenter([{"Superimpose": {"weight": [0.0, 0.5], "p": 0.5}}], (4, 4, 1), "balance.policy")
