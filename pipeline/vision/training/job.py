"""A training as plain values that travel to a worker, and the trainer built from them there.

The driver, which only hands a job on, needs no torch: the methods that do import it themselves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError, some
from pipeline.params import Training
from pipeline.vision.training.sampling import count_steps

if TYPE_CHECKING:
    import torch

    from pipeline.vision.networks import Classifier
    from pipeline.vision.training.autotune import StepTimer
    from pipeline.vision.training.batches import Share
    from pipeline.vision.training.compute_config import ComputeConfig
    from pipeline.vision.training.trainer import Trainer
    from pipeline.vision.weights import Loaded


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        images: folders of packed training images, absolute.
        validation: folder of packed validation images, absolute.
        network, args: as in params.yaml.
        weights: .safetensors file or bundle folder to start from, absolute; None: random.
        mean, std: per channel, of pixels in [0, 1].
        sync_norms: whether batch norms see the global batch when several workers share it.
        recipe: how to train.
    """

    images: tuple[Path, ...]
    validation: Path
    network: str
    args: dict[str, Any]
    weights: Path | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sync_norms: bool
    recipe: Training

    def build_network(self) -> "tuple[Classifier, Loaded | None]":
        """Build the network with its first weights, seeded.

        Raises:
            PipelineError: images, network or weights that are not there or do not fit.
        """
        import torch

        from pipeline.vision.networks import build_network
        from pipeline.vision.weights import load_weights

        info = ImageSet.open(*self.images).info
        height, width, channels = info.shape
        torch.manual_seed(self.recipe.seed)
        shape, classes = (channels, height, width), len(info.classes)
        network = build_network(self.network, self.args, shape, classes)
        loaded = load_weights(network, self.weights) if self.weights else None
        if loaded and self.recipe.trainable != "all":
            _check_nothing_random_is_frozen(loaded, self.recipe.trainable)
        return network, loaded

    def build(self, share: "Share", device: "torch.device", compute: "ComputeConfig") -> "Trainer":
        """Open the images and build the trainer of one worker.

        Raises:
            PipelineError: see `build_network`; or fewer images than workers.
        """
        from pipeline.vision.training.sync_norm import synchronise_norms
        from pipeline.vision.training.trainer import Inputs, Trainer

        network, _ = self.build_network()
        images, validation = ImageSet.open(*self.images), ImageSet.open(self.validation)
        self.check_shares(share.workers)
        if share.workers > 1 and self.sync_norms:
            synchronise_norms(network)
        inputs = Inputs(images, validation, self.mean, self.std)
        return Trainer(network, inputs, self.recipe, share=share, device=device, compute=compute)

    def timer(self, share: "Share", device: "torch.device") -> "StepTimer":
        """Return a timer of one worker's training steps, see `choose_compute`."""
        from pipeline.vision.training.autotune import time_steps
        from pipeline.vision.training.freezing import Freezing

        network, _ = self.build_network()
        Freezing(network, self.recipe).apply(self.recipe.epochs)
        height, width, channels = ImageSet.open(*self.images).info.shape
        rows = -(-self.recipe.global_batch_size // (share.workers * self.recipe.accumulate))
        return time_steps(network, (rows, channels, height, width), device)

    def check_shares(self, workers: int) -> None:
        """Refuse batches that cannot be shared out: a part without images would stop the others.

        Raises:
            PipelineError: fewer images in a batch than `workers` times its parts.
        """
        images = len(ImageSet.open(*self.images))
        recipe = self.recipe
        smallest = images // count_steps(images, recipe.global_batch_size)
        if smallest < workers * recipe.accumulate:
            raise PipelineError(
                f"batches of {smallest} images cannot be shared out to {workers} workers in"
                f" {recipe.accumulate} parts each; raise global_batch_size, or lower accumulate or"
                " resources.workers"
            )


def _check_nothing_random_is_frozen(loaded: "Loaded", trainable: str) -> None:
    frozen = [name for name in loaded.new if name.startswith("extractor.")]
    if frozen:
        raise PipelineError(
            f"trainable: {trainable} would freeze layers that the weights do not hold"
            f" ({some(frozen, 3)}); set trainable: all, or give weights for this network"
        )
