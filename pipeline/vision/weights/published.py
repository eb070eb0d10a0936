"""The weights that torchvision publishes for its networks, by name."""

import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
from torch import Tensor

from pipeline.errors import PipelineError, did_you_mean
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.networks.families import REPLACED

# DenseNet's file is from before 2018 and says norm.1 where its layers are now called norm1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class Published(NamedTuple):
    """Published weights and what they expect.

    Attributes:
        tensors: by torchvision's names.
        mean, std: per channel, of pixels in [0, 1]; the network was shown (pixel - mean) / std.
    """

    tensors: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_published(source: str) -> bool:
    """Whether a value of train.weights is a name of published weights, such as IMAGENET1K_V1."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", source) is not None


def published_weights(network: str, name: str) -> Published:
    """Read weights from torch's cache, or download them there first.

    The cache is the folder hub/checkpoints below TORCH_HOME (~/.cache/torch). A download is checked
    against the hash that its name states; a file put there by hand is trusted.

    Args:
        network: as in model.name.
        name: such as IMAGENET1K_V1, or DEFAULT for torchvision's best.

    Raises:
        PipelineError: none are published by that name, no network, or a damaged file.
    """
    entry = _entry(network, name)
    path = cached_path(entry.url)
    if not path.exists():
        _download(entry.url, path)
    preset = entry.transforms()
    return Published(_read(entry.url, path), tuple(preset.mean), tuple(preset.std))


def cached_path(url: str) -> Path:
    """Return where torch keeps what it downloaded from `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _entry(network: str, name: str) -> Any:
    """Return torchvision's entry of the weights."""
    if network not in REPLACED:
        raise PipelineError(
            f"weights: {name} names weights that torchvision publishes, and there are none for"
            f" {network}; set weights in params.yaml to null, a .safetensors file or a bundle"
            f" folder, or model.name to one of {', '.join(REPLACED)}"
        )
    entries = import_torchvision().models.get_model_weights(network)
    valid = [*entries.__members__]
    if name not in valid:
        raise PipelineError(
            f"weights: there are no {name} for {network}{did_you_mean(name, valid)}"
            f" (valid: {', '.join(valid)})"
        )
    return entries[name]


def _download(url: str, path: Path) -> None:
    """Download to `path`, which appears only when the file is whole."""
    stated = torch.hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=stated.group(1) if stated else None, progress=False
        )
    except (OSError, HTTPException, RuntimeError) as error:  # no network, no space; another hash
        raise PipelineError(
            f"cannot download {url} ({error}); put the file at {path} by hand, or set weights in"
            " params.yaml to a .safetensors file, a bundle folder or null"
        ) from error


def _read(url: str, path: Path) -> dict[str, Tensor]:
    """Read the tensors of a downloaded file, without running code from it."""
    try:
        tensors = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler stumbles on
        raise PipelineError(
            f"{path} is damaged ({error}); delete it, and it is downloaded again"
        ) from error
    if not isinstance(tensors, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in tensors.values()
    ):
        raise PipelineError(
            f"{path} does not hold tensors by name; delete it, and it is downloaded again"
        )
    return {
        _OLD_DENSENET.sub(r"\1\2", name): tensor.detach().contiguous()
        for name, tensor in tensors.items()
    }
