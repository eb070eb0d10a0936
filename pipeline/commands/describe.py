"""`convoy describe`: the layers of a network, and the matrix of one of its convolutions."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.commands._inputs import check_output, locate_bundle
from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.weight_matrix import check_size, draw_weight_matrix
from pipeline.evaluation.reports.network_words import table_text, volume
from pipeline.params import load_params
from pipeline.progress import command_clock
from pipeline.recipes.kept import recipe_of
from pipeline.stages._paths import PACKED
from pipeline.vision.anatomy.convolution_matrix import convolution_matrix
from pipeline.vision.anatomy.layers import describe_network
from pipeline.vision.anatomy.trace import find_convolution
from pipeline.vision.bundle.description import read_description
from pipeline.vision.networks import Classifier, build_network
from pipeline.vision.training.freezing import Freezing

Stage = Literal["train", "finetune"]
_ASSUMED_CLASSES = 10


@dataclass(frozen=True)
class Asked:
    """What network is described, and for which images.

    Attributes:
        model: a bundle folder, an MLflow run id or a registry URI; None for that of params.yaml.
        stage: whose frozen layers count, of a network of params.yaml.
        height, width: of an image in px; None for those of the model.
        classes: of a network of params.yaml; None for those of the packed images.
    """

    model: str | None
    stage: Stage
    height: int | None
    width: int | None
    classes: int | None


@command_clock("describe")
def run(asked: Asked, *, as_json: bool) -> None:
    """Print the layers as a table or as JSON.

    Raises:
        PipelineError: no such model, or one that does not take images of this size.
    """
    name, network, shape = _build(asked)
    report = describe_network(name, network, shape)
    print(report.model_dump_json(indent=2) if as_json else table_text(report))


@command_clock("describe")
def run_matrix(asked: Asked, layer: str, output: Path | None) -> None:
    """Print how a convolution compares with a dense layer, and draw its matrix.

    Raises:
        PipelineError: see `run`; or no such layer, one that is too large, or an output of another
            kind.
    """
    if output is None:
        raise PipelineError("--output: got none; --matrix needs the name of a .png file")
    check_output(output, (".png",))
    _, network, shape = _build(asked)
    name, convolution, inputs = find_convolution(network, shape, layer)
    matrix = convolution_matrix(convolution, inputs)
    check_size(*matrix.matrix.shape)
    figure = draw_weight_matrix(
        matrix.places.toarray(),
        matrix.weights,
        (f"inputs: {volume(matrix.inputs)}", f"outputs: {volume(matrix.outputs)}"),
        f"{name}: {matrix.summary()}",
    )
    save(figure, output)
    print(f"{name}: {matrix.summary()}")
    print(f"picture: {output}")


def _build(asked: Asked) -> tuple[str, Classifier, tuple[int, int, int]]:
    """Build the network; with random weights, since none of what is told depends on them."""
    if asked.model is not None:
        if asked.classes is not None:
            raise PipelineError(
                "--classes: a bundle has its own; leave it out, or leave out the bundle"
            )
        described = read_description(locate_bundle(asked.model))
        shape = _sized(described.shape, asked)
        classes = len(described.classes)
        return (
            described.network,
            build_network(described.network, described.args, shape, classes),
            shape,
        )
    params = load_params()
    pack, model = params.pack, params.model
    shape = _sized((pack.channels, pack.height, pack.width), asked)
    args = model.args.model_dump(exclude_unset=True)
    network = build_network(model.name, args, shape, asked.classes or _packed_classes())
    recipe = recipe_of(params, asked.stage)
    network.requires_grad_(False)
    for group in Freezing(network, recipe).parameters:
        for parameter in group:
            parameter.requires_grad_(True)
    return model.name, network, shape


def _sized(shape: tuple[int, int, int], asked: Asked) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, asked.height or height, asked.width or width


def _packed_classes() -> int:
    if (PACKED / "train").is_dir():
        return len(ImageSet.open(PACKED / "train").info.classes)
    print(
        f"describe: {_ASSUMED_CLASSES} classes are assumed, since there is no {PACKED / 'train'};"
        " --classes takes another number",
        file=sys.stderr,
    )
    return _ASSUMED_CLASSES
