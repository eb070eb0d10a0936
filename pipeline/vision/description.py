"""What bundle.json says of a model. Without torch, so that asking is quick."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.prepare import Preparing
from pipeline.files import fresh_folder, read_json, write_json
from pipeline.vision.digest import DESCRIPTION_FILE, WEIGHTS_FILE, no_bundle

if TYPE_CHECKING:
    from pipeline.vision.networks import Classifier

FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What bundle.json says.

    Attributes:
        network: name, as in params.yaml.
        args: further arguments of the network.
        classes: names in the order of the outputs.
        preparing: how an image file becomes an array.
        mean, std: per channel, of pixels in [0, 1]; the network sees (pixel - mean) / std.
        origin: digests of data and params, and what the weights started from.
        validation: metrics on the validation split.
    """

    network: str
    args: dict[str, Any]
    classes: tuple[str, ...]
    preparing: Preparing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of the network's input."""
        return self.preparing.channels, self.preparing.height, self.preparing.width

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
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise no_bundle(folder, f"{path} has format {found}, this Convoy reads {FORMAT}")
    try:
        return Description(
            network=raw["network"],
            args=raw["args"],
            classes=tuple(raw["classes"]),
            preparing=Preparing(**raw["preparing"]),
            mean=tuple(map(float, raw["mean"])),
            std=tuple(map(float, raw["std"])),
            origin=raw["origin"],
            validation=raw["validation"],
        )
    except KeyError as error:
        raise no_bundle(folder, f"{path} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise no_bundle(folder, f"{path} holds a wrong value: {error}") from error


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
