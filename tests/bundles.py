"""Bundles of networks in memory."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file
from torch import Tensor

from pipeline.vision.bundle.description import Description, write_bundle


def save_bundle(folder: Path, description: Description, weights: Mapping[str, Tensor]) -> None:
    """Write a bundle; `folder` is replaced."""
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)
        write_bundle(folder, description, file)
