"""Put weights from a file or a bundle into a network, and say what went where."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import PipelineError, some
from pipeline.vision.bundle.digest import WEIGHTS_FILE
from pipeline.vision.networks import Classifier
from pipeline.vision.networks.first_convolution import adapt_kernels, first_kernels

# Batch norms count their batches, and use the count only where they have no momentum: ours have.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Loaded:
    """What happened to each tensor, by name.

    Attributes:
        loaded: tensors of the network that now hold the source's values.
        adapted: tensors of the network that hold the source's values, made to fit the number of
            channels.
        skipped: tensors of the source that have no place of their shape in the network.
        new: tensors of the network that keep their random values.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    skipped: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for names, what in (
            (self.adapted, "adapted to the number of channels"),
            (self.skipped, "skipped"),
            (self.new, "new"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({some(names, 3)})")
        return ", ".join(parts)


def weights_file(source: Path) -> Path:
    """Return the file that holds the weights of `source`, a file or a bundle folder."""
    return source / WEIGHTS_FILE if source.is_dir() else source


def load_weights(network: Classifier, source: Path, *, head: bool = True) -> Loaded:
    """Copy every tensor of `source` that fits into `network`, as `load_tensors` does.

    Args:
        network: changed in place.
        source: a .safetensors file, or a bundle folder.
        head: whether that of the source may fill the network's, if it has as many classes.

    Raises:
        PipelineError: no such file, not safetensors, or nothing in it fits.
    """
    path = weights_file(source)
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise PipelineError(
            f"no weights at {source}; set weights in params.yaml to a .safetensors file, a bundle"
            " folder, a name that torchvision publishes (IMAGENET1K_V1) or null"
        ) from error
    except (SafetensorError, OSError) as error:
        raise PipelineError(f"{path} is not a whole safetensors file: {error}") from error
    return load_tensors(network, tensors, str(path), head=head)


def load_tensors(
    network: Classifier, tensors: Mapping[str, Tensor], source: str, *, head: bool = True
) -> Loaded:
    """Copy every tensor that fits into `network`.

    Tensors of the plain network (torchvision's names, say) fill the extractor, and the head if
    their last dense layer has as many classes; those that Convoy wrote fill both likewise. The
    first convolution is adapted to the number of channels.

    Args:
        network: changed in place.
        tensors: by name.
        source: where they come from, for the message.
        head: whether the head may be filled.

    Raises:
        PipelineError: nothing fits.
    """
    own = network.state_dict()
    first = first_kernels(network)
    loaded: dict[str, Tensor] = {}
    adapted: dict[str, Tensor] = {}
    skipped = []
    for name, tensor in tensors.items():
        target = _place(name, own, network.head_name)
        if target is None or (target.startswith("head.") and not head):
            skipped.append(name)
        elif own[target].shape == tensor.shape:
            loaded[target] = tensor
        elif target == first and _differ_in_channels_alone(own[target], tensor):
            adapted[target] = adapt_kernels(tensor, own[target].shape[1])
        else:
            skipped.append(name)
    if all(name.endswith(_COUNTER) for name in loaded):  # scalars, which fit any network's
        raise PipelineError(
            f"nothing in {source} fits the network: it has {some(sorted(tensors), 3)}, expected"
            f" {some(own, 3)}; set model.name to the network that the file was made for"
        )
    network.load_state_dict(own | loaded | adapted)
    new = [n for n in own if n not in loaded | adapted and not n.endswith(_COUNTER)]
    return Loaded(tuple(loaded), tuple(adapted), tuple(skipped), tuple(new))


def _place(name: str, own: Mapping[str, Tensor], head_name: str | None) -> str | None:
    """Return what the network calls the tensor that the source calls `name`, if it has one."""
    layer, _, kind = name.rpartition(".")
    targets = [name, f"extractor.{name}", *([f"head.{kind}"] if layer == head_name else [])]
    return next((target for target in targets if target in own), None)


def _differ_in_channels_alone(a: Tensor, b: Tensor) -> bool:
    """Whether both are filters x channels x height x width, equal but for the channels."""
    return a.ndim == b.ndim == 4 and a.shape[0] == b.shape[0] and a.shape[2:] == b.shape[2:]
