"""What bundle.json says of a model. Without torch, so that asking is quick."""

import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.files import fresh_folder, read_json, write_json
from pipeline.params import check_carried_views
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.digest import DESCRIPTION_FILE, WEIGHTS_FILE, no_bundle

if TYPE_CHECKING:
    from pipeline.vision.networks import Classifier

# Format 1 knew neither views nor temperature; formats 1 and 2 said `preparing` for
# `preprocessing` and nothing of the arithmetic.
FORMAT = 3
_READ = (1, 2, 3)

Mean = Literal["arithmetic", "geometric"]


@dataclass(frozen=True)
class Views:
    """The views whose posteriors are averaged, for test-time augmentation.

    Attributes:
        items: one view each, such as {"rotate": {"degrees": 7.0}}; see `vision.inference.views`.
        mean: of the posteriors.
        seed: of random views.
    """

    items: tuple[dict[str, dict[str, Any]], ...]
    mean: Mean
    seed: int

    @property
    def are_random(self) -> bool:
        """Whether a view is drawn, which needs albumentations."""
        return any("random" in item for item in self.items)


@dataclass(frozen=True)
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
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    views: Views | None = None
    temperature: float = 1.0
    compute: Arithmetic | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of the network's input."""
        return self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width

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
            folder, f"{path} has format {found}, this Convoy reads {_READ[0]} to {FORMAT}"
        )
    try:
        return Description(
            network=raw["network"],
            args=raw["args"],
            classes=tuple(raw["classes"]),
            preprocessing=Preprocessing(
                **raw["preprocessing" if raw["format"] > 2 else "preparing"]
            ),
            mean=tuple(map(float, raw["mean"])),
            std=tuple(map(float, raw["std"])),
            origin=raw["origin"],
            validation=raw["validation"],
            **(_answering(raw) if raw["format"] > 1 else {}),
            compute=_compute(raw.get("compute")),
        )
    except KeyError as error:
        raise no_bundle(folder, f"{path} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise no_bundle(folder, f"{path} holds a wrong value: {error}") from error


def _preprocessing_key(format_: int) -> str:
    return "preprocessing" if format_ > 2 else "preparing"


def _answering(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what format 2 added: how an answer is made of what the network returns."""
    temperature = float(raw["temperature"])
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: got {temperature}, need a number above 0")
    return {"views": _views(raw["views"]), "temperature": temperature}


def _compute(raw: Any) -> Arithmetic | None:
    try:
        return None if raw is None else Arithmetic.of(raw)
    except ValueError as error:
        raise ValueError(f"compute: {error}") from error


def _views(raw: Any) -> Views | None:
    if raw is None:
        return None
    mistakes = [f"views.items{mistake}" for mistake in check_carried_views(raw["items"])]
    if raw["mean"] not in get_args(Mean):
        mistakes.append(f"views.mean: got {raw['mean']}, need {' or '.join(get_args(Mean))}")
    if type(raw["seed"]) is not int or not 0 <= raw["seed"] < 2**32:
        mistakes.append(f"views.seed: got {raw['seed']}, need a whole number from 0 below 2^32")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return Views(tuple(raw["items"]), raw["mean"], raw["seed"])


def write_bundle(folder: Path, description: Description, weights: Path) -> None:
    """Write a bundle; `folder` is replaced when the new one is whole.

    Args:
        folder: where.
        description: of the model.
        weights: a .safetensors file of the whole network; it is copied.
    """
    with fresh_folder(folder) as new:
        shutil.copyfile(weights, new / WEIGHTS_FILE)
        write_json(new / DESCRIPTION_FILE, {"format": FORMAT, **asdict(description)})


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
