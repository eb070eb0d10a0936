"""Put weights from a file or a bundle into a network, and say what went where."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.errors import PipelineError, some
from pipeline.vision.digest import WEIGHTS_FILE
from pipeline.vision.networks import Classifier


@dataclass(frozen=True)
class Loaded:
    """What happened to each tensor, by name.

    Attributes:
        loaded: tensors of the network that now hold the file's values.
        skipped: tensors of the file that have no place of their shape in the network.
        new: tensors of the network that keep their random values.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped ({some(self.skipped, 3)})")
        if self.new:
            parts.append(f"{len(self.new)} new ({some(self.new, 3)})")
        return ", ".join(parts)


def weights_file(source: Path) -> Path:
    """Return the file that holds the weights of `source`, a file or a bundle folder."""
    return source / WEIGHTS_FILE if source.is_dir() else source


def load_weights(network: Classifier, source: Path) -> Loaded:
    """Copy every tensor of `source` that fits into `network`.

    A file of the plain network (torchvision's names, say) fills the extractor; one that Convoy
    wrote fills the head too, if its classes are as many.

    Args:
        network: changed in place.
        source: a .safetensors file, or a bundle folder.

    Raises:
        PipelineError: no such file, not safetensors, or nothing in it fits.
    """
    path = weights_file(source)
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise PipelineError(
            f"no weights at {source}; set weights in params.yaml to a .safetensors file, a bundle"
            " folder or null"
        ) from error
    except (SafetensorError, OSError) as error:
        raise PipelineError(f"{path} is not a whole safetensors file: {error}") from error
    own = network.state_dict()
    placed: dict[str, torch.Tensor] = {}
    skipped = []
    for name, tensor in tensors.items():
        target = name if name in own else f"extractor.{name}"
        if target in own and own[target].shape == tensor.shape:
            placed[target] = tensor
        else:
            skipped.append(name)
    if not placed:
        raise PipelineError(
            f"nothing in {path} fits the network: it has {some(sorted(tensors), 3)}, expected"
            f" {some(own, 3)}; set model.name to the network that the file was made for"
        )
    network.load_state_dict(own | placed)
    return Loaded(tuple(placed), tuple(skipped), tuple(name for name in own if name not in placed))
