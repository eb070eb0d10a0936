"""A training as plain values that travel to a worker, see `building` for what is made of them.

The process that only hands a job on needs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.params.choices.training import Training
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.description import Description
from pipeline.vision.bundle.digest import values_digest
from pipeline.vision.training.sampling import count_steps


@dataclass(frozen=True)
class Job:
    """One training, see `make_job`.

    Attributes:
        stage: 'train' or 'finetune'.
        images: folders of packed training images, absolute.
        validation: folder of packed validation images, absolute.
        images_digest, validation_digest: of their content, sha256, hex.
        classes: names in the order of the outputs.
        preprocessing: how an image file becomes an array.
        mean, std: per channel, of pixels in [0, 1].
        network, args: as in params.yaml.
        weights: .safetensors file or bundle folder to start from, absolute; None: random.
        origin: what identifies these weights, wherever they lie.
        recipe: how to train.
    """

    stage: str
    images: tuple[Path, ...]
    validation: Path
    images_digest: str
    validation_digest: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network: str
    args: dict[str, Any]
    weights: Path | None
    origin: str
    recipe: Training

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: sets that are open here stay here."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def training_set(self) -> ImageSet:
        """The training images, opened once in each process."""
        return ImageSet.open(*self.images)

    @cached_property
    def validation_set(self) -> ImageSet:
        """The validation images, opened once in each process."""
        return ImageSet.open(self.validation)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of one epoch."""
        return count_steps(len(self.training_set), self.recipe.global_batch_size)

    def description(
        self, validation: Mapping[str, float], compute: Arithmetic | None
    ) -> Description:
        """Describe the model that comes out.

        Args:
            validation: its metrics on the validation split.
            compute: precision and memory order of the training.
        """
        model = {"name": self.network, "args": self.args}
        return Description(
            network=self.network,
            args=self.args,
            classes=self.classes,
            preprocessing=self.preprocessing,
            mean=self.mean,
            std=self.std,
            origin={
                "data": self.images_digest,
                "validation": self.validation_digest,
                "params": values_digest([model, self.recipe.model_dump(mode="json")]),
                "weights": self.origin,
            },
            validation=dict(validation),
            compute=compute,
        )

    def identity(self, compute: Arithmetic | None, versions: Mapping[str, str], code: str) -> str:
        """Digest all that the outcome depends on: sha256, hex.

        Where files lie and what the stage is called are no part of it.

        Args:
            compute: precision and memory order; None if the training itself is to choose them.
            versions: of the libraries that compute, see `library_versions`.
            code: digest of the code that decides the outcome, see `code_digest`.
        """
        described = asdict(self.description({}, compute))
        recipe = self.recipe.model_dump(mode="json")
        return values_digest([described, recipe, dict(versions), code])

    def moved(self, before: Path, after: Path) -> Self:
        """Return the same job with its files below another folder."""

        def move(path: Path) -> Path:
            return after / path.relative_to(before)

        return replace(
            self,
            images=tuple(map(move, self.images)),
            validation=move(self.validation),
            weights=self.weights and move(self.weights),
        )

    @property
    def paths(self) -> list[Path]:
        """All files and folders that it reads."""
        return [*self.images, self.validation, *([self.weights] if self.weights else [])]

    def check_shares(self, workers: int) -> None:
        """Refuse batches that cannot be shared out: a part without images would stop the others.

        Raises:
            PipelineError: fewer images in a batch than `workers` times its parts.
        """
        images, recipe = len(self.training_set), self.recipe
        smallest = images // self.steps_per_epoch
        if smallest < workers * recipe.accumulate:
            raise PipelineError(
                f"batches of {smallest} images cannot be shared out to {workers} workers in"
                f" {recipe.accumulate} parts each; raise global_batch_size, or lower accumulate or"
                " resources.workers"
            )
