"""Commands that take models, or train one for a moment."""

from pathlib import Path
from typing import Literal

import click

from pipeline.cli._shared import path_option, read_params, training_option
from pipeline.errors import PipelineError


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@path_option("--images", "Packed images to judge by.", default="data/packed/test")
@path_option("--output", "Also write all of it: .json.")
@path_option("--sheet", "Draw images that only one has right: .png.")
def compare(a: str, b: str, images: Path, output: Path | None, sheet: Path | None) -> None:
    """Compare two models: bundle folders, MLflow run ids or models:/NAME@ALIAS."""
    params = read_params()
    from pipeline.commands import compare as command

    command.run(params, (a, b), images, output, sheet)


@click.command()
@click.argument("bundle", required=False)
@training_option("Whose frozen layers count, without BUNDLE.")
@click.option("--height", type=click.IntRange(min=1), help="Of an image in px, if another.")
@click.option("--width", type=click.IntRange(min=1), help="Likewise.")
@click.option("--classes", type=click.IntRange(min=1), help="Without BUNDLE and packed images.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@click.option("--matrix", metavar="LAYER", help="Draw this convolution as a dense layer's matrix.")
@path_option("--output", "Draw it here: .png.")
def describe(
    bundle: str | None,
    *,
    stage: Literal["train", "finetune"],
    height: int | None,
    width: int | None,
    classes: int | None,
    as_json: bool,
    matrix: str | None,
    output: Path | None,
) -> None:
    """Print the layers of BUNDLE, or of the network of params.yaml.

    BUNDLE is a bundle folder, an MLflow run id, models:/NAME@ALIAS or models:/NAME/VERSION.
    """
    if output is not None and matrix is None:
        raise PipelineError("--output is for the picture of --matrix LAYER; name a layer too")
    from pipeline.commands import describe as command

    asked = command.Asked(bundle, stage, height, width, classes)
    if matrix is None:
        command.run(asked, as_json=as_json)
    else:
        command.run_matrix(asked, matrix, output)


@click.command("lr-find")
@training_option("Whose network, images and recipe.")
@click.option("--lowest", type=float, default=1e-6, show_default=True, help="The first rate.")
@click.option("--highest", type=float, default=1.0, show_default=True, help="The last rate.")
@click.option(
    "--steps",
    type=click.IntRange(min=10),
    default=100,
    show_default=True,
    help="Batches from the one to the other.",
)
def lr_find(stage: str, lowest: float, highest: float, steps: int) -> None:
    """Suggest a learning rate by a short training whose rate rises."""
    if not 0 < lowest < highest < float("inf"):
        raise PipelineError(
            f"--lowest is {lowest:g} and --highest {highest:g}; need 0 < lowest < highest, finite"
        )
    params = read_params()
    from pipeline.commands import lr_find as command

    command.run(params, stage, lowest, highest, steps)
