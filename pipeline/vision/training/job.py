"""A training as plain values that travel to a worker, and the trainer built from them there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.data.shards import ImageSet
from pipeline.errors import PipelineError, some
from pipeline.params import Training
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.trainer import Inputs, Trainer
from pipeline.vision.weights import Loaded, load_weights


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        images: folders of packed training images, absolute.
        validation: folder of packed validation images, absolute.
        network, args: as in params.yaml.
        weights: .safetensors file or bundle folder to start from, absolute; None: random.
        mean, std: per channel, of pixels in [0, 1].
        recipe: how to train.
    """

    images: tuple[Path, ...]
    validation: Path
    network: str
    args: dict[str, Any]
    weights: Path | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Training

    def build(self, share: Share, device: torch.device) -> tuple[Trainer, Loaded | None]:
        """Open the images and build the network with its first weights, seeded.

        Raises:
            PipelineError: images, network or weights that are not there or do not fit.
        """
        images, validation = ImageSet.open(*self.images), ImageSet.open(self.validation)
        height, width, channels = images.info.shape
        torch.manual_seed(self.recipe.seed)
        shape, classes = (channels, height, width), len(images.info.classes)
        network = build_network(self.network, self.args, shape, classes)
        loaded = load_weights(network, self.weights) if self.weights else None
        if loaded and self.recipe.trainable == "head":
            _check_nothing_random_is_frozen(loaded)
        inputs = Inputs(images, validation, self.mean, self.std)
        return Trainer(network, inputs, self.recipe, share, device), loaded


def _check_nothing_random_is_frozen(loaded: Loaded) -> None:
    frozen = [name for name in loaded.new if name.startswith("extractor.")]
    if frozen:
        raise PipelineError(
            f"trainable: head would freeze layers that the weights do not hold ({some(frozen, 3)});"
            " set trainable: all, or give weights for this network and number of channels"
        )
