"""What several commands take, and the params that they read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.params import Params

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

model_option = click.option(
    "--model",
    default="models/final",
    show_default=True,
    help="A bundle folder, an MLflow run id, models:/NAME@ALIAS or models:/NAME/VERSION.",
)
images_argument = click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def path_option(name: str, text: str, default: str | None = None) -> _Decorator:
    """Make an option that takes a path, with its line of help."""
    return click.option(
        name, type=click.Path(path_type=Path), default=default, show_default=True, help=text
    )


def training_option(text: str) -> _Decorator:
    """Make the option `--stage`, one of the trainings, with its line of help."""
    return click.option(
        "--stage",
        type=click.Choice(["train", "finetune"]),
        default="train",
        show_default=True,
        help=text,
    )


def read_params() -> "Params":
    """Return the params that hold where this process runs."""
    from pipeline.params import load_params
    from pipeline.runtime.storage.job_context import placed

    return placed(load_params())
