"""Commands that take images: what they show, where, and what is like them."""

from pathlib import Path

import click

from pipeline.cli._shared import images_argument, json_option, model_option, path_option


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@path_option("--output", "Also write the answers here: .csv, .json or .parquet.")
def predict(paths: tuple[Path, ...], model: str, output: Path | None) -> None:
    """Classify image files or folders of them."""
    from pipeline.commands import predict as command

    command.run(paths, model, output)


@click.command()
@images_argument
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many of each."
)
@click.option(
    "--among",
    type=click.Choice(["train", "all"]),
    default="train",
    show_default=True,
    help="Search the training images, or those of all splits.",
)
@model_option
@path_option("--output", "Draw them here: .png.", default="reports/similar.png")
@json_option
def similar(
    images: tuple[Path, ...], *, k: int, among: str, model: str, output: Path, as_json: bool
) -> None:
    """Find the images of the data set nearest to IMAGES, files or folders of them.

    The model must be the one that made data/embeddings.
    """
    from pipeline.commands import similar as command

    command.run(images, k, among, model, output, as_json=as_json)


@click.command()
@images_argument
@model_option
@click.option("--class", "asked", metavar="NAME", help="Look for it, not for the predicted class.")
@click.option(
    "--threshold",
    type=float,
    help="Where a box begins, of the map's maximum. Default: what localize chose for this model,"
    " else 0.2.",
)
@click.option("--full-size", is_flag=True, help="Keep the resolution of large images.")
@path_option(
    "--output",
    "Draw the maps here: a .png, or a folder for one picture each.",
    default="reports/locate.png",
)
@json_option
def locate(
    *,
    images: tuple[Path, ...],
    model: str,
    asked: str | None,
    threshold: float | None,
    full_size: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Find where images show a class: IMAGES are files or folders of them."""
    from pipeline.commands import locate as command

    command.run(images, model, asked, threshold, output, full_size=full_size, as_json=as_json)
