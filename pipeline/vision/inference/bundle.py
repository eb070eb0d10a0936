"""A trained model as two files: all that prediction needs.

`model.safetensors` holds the weights; `bundle.json` the network's name and arguments, the
classes in order, how an image file becomes the network's input, in which views it is seen, and
where the model comes from. Loading runs no code from either file. Equal trainings give equal
bundles: nothing in them names a time, a machine or a tracking run, so that `digest` is the
identity of the model.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.params.choices.views import Identity
from pipeline.vision.bundle.description import Description, check_weights, read_description
from pipeline.vision.bundle.digest import DESCRIPTION_FILE, WEIGHTS_FILE, bundle_digest, no_bundle
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.inference.views import View, build_views
from pipeline.vision.networks import Classifier


@dataclass(frozen=True)
class Bundle:
    """A trained model, ready to predict; the network is in evaluation mode."""

    description: Description
    network: Classifier
    folder: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.description.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image file becomes an array."""
        return self.description.preprocessing

    @cached_property
    def normalize(self) -> Normalization:
        """From prepared images to the network's input, on the network's device."""
        device = next(self.network.parameters()).device
        return Normalization.of(self.description.mean, self.description.std, device)

    @cached_property
    def views(self) -> list[View]:
        """What the network sees of an image, one after another.

        Raises:
            PipelineError: see `build_views`.
        """
        views, (channels, height, width) = self.description.views, self.description.shape
        if views is None:
            return build_views([Identity()], 0, (height, width, channels))
        return build_views(views.items, views.seed, (height, width, channels))

    @cached_property
    def digest(self) -> str:
        """The identity of the model: sha256 (hex) over both files."""
        return bundle_digest(self.folder)


def load_bundle(folder: Path, device: torch.device | None = None) -> Bundle:
    """Read a bundle and build its network.

    Raises:
        PipelineError: no bundle there, or files that do not belong together.
    """
    description = read_description(folder)
    check_weights(folder)
    try:
        network = description.build()
    except PipelineError as error:
        raise no_bundle(folder, f"{folder / DESCRIPTION_FILE}: {error}") from error
    try:
        weights = load_file(folder / WEIGHTS_FILE)
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise no_bundle(
            folder, f"{WEIGHTS_FILE} does not hold a {description.network}: {error}"
        ) from error
    wild = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if wild:
        raise no_bundle(folder, f"{WEIGHTS_FILE} holds values that are not finite in {wild[0]}")
    return Bundle(description, network.to(device or torch.device("cpu")).eval(), folder)
