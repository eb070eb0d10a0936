"""A training and what became of it, as plain values, which are quick to import."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.vision.bundle.digest import values_digest


@dataclass(frozen=True)
class Trained:
    """A training and what it learns from.

    Attributes:
        stage: 'train' or 'finetune'.
        recipe: how to train.
        images: folders of packed training images.
        validation: folder of packed validation images.
        tags: further ones of its run.
    """

    stage: str
    recipe: Training
    images: tuple[Path, ...]
    validation: Path
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Path]:
        """All paths that it reads; of weights that are no path, their name."""
        weights = [Path(self.recipe.weights)] if self.recipe.weights else []
        return [*self.images, self.validation, *weights]


@dataclass(frozen=True)
class Result:
    """A trained model and what became of it.

    Attributes:
        params: all that it was trained with.
        trained: how, and on what.
        history: JSON file with a record per epoch.
        bundle: folder; also another one with the same weights.
        metrics: test figures by name.
        files: pictures and reports, by their place among the run's artifacts.
    """

    params: Params
    trained: Trained
    history: Path
    bundle: Path
    metrics: Mapping[str, float]
    files: Mapping[str, Path]

    @property
    def digest(self) -> str:
        """Digest of all that is put onto the run."""
        files = {
            name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()
        }
        return values_digest([dict(self.metrics), files])
