"""What bundle.json says of a model. Without torch, so that asking is quick."""

import shutil
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.files import fresh_folder, read_json, write_json
from pipeline.params import parse
from pipeline.params.choices.views import Draw, View
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.digest import DESCRIPTION_FILE, WEIGHTS_FILE, no_bundle, weights_digest

if TYPE_CHECKING:
    from pipeline.vision.networks import Classifier

# Format 1 knew neither views nor temperature; formats 1 and 2 said `preparing` for
# `preprocessing` and nothing of the arithmetic; formats 1 to 3 nothing of the weights.
_FORMAT = 4
_READ = (1, 2, 3, 4)
_WEIGHTS_KEY = "weights_sha256"
RANDOM_WEIGHTS = "random"  # what `origin` says of weights that started from none

Mean = Literal["arithmetic", "geometric"]
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@pydantic_dataclass(frozen=True, config=_STRICT)
class Views:
    """The views whose posteriors are averaged, for test-time augmentation.

    Attributes:
        items: one view each, in bundle.json as {"rotate": {"degrees": 7.0}}.
        mean: of the posteriors.
        seed: of random views.
    """

    items: Annotated[tuple[View, ...], Field(min_length=1), Strict(False)]
    mean: Mean
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def are_random(self) -> bool:
        """Whether a view is drawn, which needs albumentations."""
        return any(isinstance(item, Draw) for item in self.items)


@pydantic_dataclass(frozen=True, config=_STRICT | {"extra": "forbid"})
class Description:
    """What bundle.json says.

    Attributes:
        network: name, as in params.yaml.
        args: further arguments of the network.
        classes: names in the order of the outputs.
        preprocessing: how an image file becomes an array.
        mean, std: per channel, of pixels in [0, 1]; the network sees (pixel - mean) / std.
        origin: digests of data and params, and what the weights started from.
        validation: metrics on the validation split.
        views: that an image is seen in; None is the image as it is, once.
        temperature: that posteriors are tempered with at last; 1 leaves them as they are.
        compute: precision and memory order of the training; None where they are unknown.
    """

    network: str
    args: dict[str, Any]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    preprocessing: Preprocessing
    mean: tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...]
    std: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...]
    origin: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    views: Views | None = None
    temperature: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0
    compute: Arithmetic | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of the network's input."""
        return self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width

    @property
    def from_scratch(self) -> bool:
        """Whether its training started from random weights, as far as is known."""
        return bool(self.origin.get("weights", RANDOM_WEIGHTS) == RANDOM_WEIGHTS)

    def build(self) -> "Classifier":
        """Build the network with random weights."""
        from pipeline.vision.networks import build_network

        return build_network(self.network, self.args, self.shape, len(self.classes))


def read_description(folder: Path) -> Description:
    """Read bundle.json.

    Raises:
        PipelineError: no bundle there, a damaged one, or one of another format.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise no_bundle(folder, f"{DESCRIPTION_FILE} is missing")
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("format") not in _READ:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise no_bundle(
            folder, f"{path} has format {found}, this Convoy reads {_READ[0]} to {_FORMAT}"
        )
    format_ = raw.pop("format")
    for name, since in (("temperature", 2), ("views", 2), (_WEIGHTS_KEY, 4)):
        if format_ >= since and name not in raw:
            raise no_bundle(folder, f"{path}: {name}: missing, add it")
    raw.pop(_WEIGHTS_KEY, None)
    compute = raw.pop("compute", None)
    if "preparing" in raw:
        raw["preprocessing"] = raw.pop("preparing")
    try:
        described: Description = parse(Description, raw)
        description = replace(described, compute=_compute(compute))
    except ValueError as error:  # mistakes among them
        raise no_bundle(folder, f"{path}: {error}") from error
    if mistake := _contradiction(description):
        raise no_bundle(folder, f"{path}: {mistake}")
    return description


def check_weights(folder: Path) -> None:
    """Compare the weights of a bundle with what bundle.json says of them, if it does.

    Raises:
        PipelineError: they are missing, or not those with which the bundle was written.
    """
    expected, found = read_json(folder / DESCRIPTION_FILE).get(_WEIGHTS_KEY), weights_digest(folder)
    if expected not in (None, found):
        raise no_bundle(
            folder,
            f"{WEIGHTS_FILE} is damaged or another's: its sha256 is {found}, {DESCRIPTION_FILE} has"
            f" {expected}; copy both files again",
        )


def _compute(raw: Any) -> Arithmetic | None:
    try:
        return None if raw is None else Arithmetic.of(raw)
    except ValueError as error:
        raise ValueError(f"compute: {error}") from error


def _contradiction(described: Description) -> str | None:
    """Return which values do not go together, None if all do."""
    channels = described.preprocessing.channels
    for name, values in (("mean", described.mean), ("std", described.std)):
        if len(values) != channels:
            return f"{name}: got {len(values)} values, need one for each of {channels} channels"
    if len(set(described.classes)) < len(described.classes):
        twice = next(name for name in described.classes if described.classes.count(name) > 1)
        return f"classes: got {twice!r} twice, need different names"
    return None


def write_bundle(folder: Path, description: Description, weights: Path) -> None:
    """Write a bundle; `folder` is replaced when the new one is whole.

    Args:
        folder: where.
        description: of the model.
        weights: a .safetensors file of the whole network; it is copied.
    """
    with fresh_folder(folder) as new:
        shutil.copyfile(weights, new / WEIGHTS_FILE)
        write_description(new, description, weights_digest(new))


def write_description(folder: Path, description: Description, weights: str) -> None:
    """Write bundle.json; `weights` is the sha256 (hex) of the weights beside it."""
    described = TypeAdapter(Description).dump_python(description, mode="json")
    about = {"format": _FORMAT, _WEIGHTS_KEY: weights}
    write_json(folder / DESCRIPTION_FILE, about | described)


def rewrite_bundle(source: Path, folder: Path, views: Views | None, temperature: float) -> None:
    """Write the model of one bundle as another that answers in another way.

    Args:
        source: a bundle; it stays as it is.
        folder: where to; replaced when the new bundle is whole.
        views: that an image is seen in, None for the image as it is.
        temperature: of its answers, 1 for none.

    Raises:
        PipelineError: no bundle at `source`.
    """
    described = replace(read_description(source), views=views, temperature=temperature)
    write_bundle(folder, described, source / WEIGHTS_FILE)
