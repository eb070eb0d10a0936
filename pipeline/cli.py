"""Arguments in, exit code out.

A mistake of the user becomes one line on stderr and exit code 2. Nothing heavy is imported here:
`convoy --help` shows what there is before torch would have been found.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pipeline.errors import MISTAKE, PipelineError, did_you_mean

if TYPE_CHECKING:
    from pipeline.params import Params

# In the order of the flow, each with the line that `convoy --help` shows.
STAGES = {
    "sample": "Make the embedded data set, or fetch a torchvision one.",
    "index": "List, verify and measure the images under data.root.",
    "split": "Decide which images train, choose and judge.",
    "pack": "Decode and resize the images once, into Arrow shards.",
    "balance": "Make synthetic images of the rare classes.",
    "baseline": "Train the hand-crafted classifier to beat.",
    "autotune": "Choose precision and memory order by a short trial, once.",
    "start": "Choose between a warm start from the champion and a cold one.",
    "train": "Train the network.",
    "finetune": "Fine-tune models/base.",
    "tta": "Choose views on the validation images; write models/final.",
    "evaluate": "Measure all models on the test images.",
    "localize": "Map where the final model looks; measure its boxes, if there are given ones.",
    "embed": "Map the latent space and find nearest neighbours.",
    "inspect": "Describe the layers; draw filters and activations.",
    "register": "Register the final model; promote it, if it passes the gate.",
    "report": "Write reports/index.html.",
}


class _Commands(click.Group):
    """Lists commands for people first, then the stages in the order of the flow."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        people = {name: c for name, c in self.commands.items() if name not in STAGES}
        stages = {name: c for name, c in self.commands.items() if name in STAGES}
        for title, commands in (("Commands", people), ("Stages, run by dvc repro", stages)):
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(80)) for n, c in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            nearest = did_you_mean(args[0], self.commands) or f": {', '.join(self.commands)}"
            ctx.fail(f"there is no command '{args[0]}'{nearest}")
        return super().resolve_command(ctx, args)


_model = click.option(
    "--model",
    default="models/final",
    show_default=True,
    help="A bundle folder, an MLflow run id, models:/NAME@ALIAS or models:/NAME/VERSION.",
)
_images = click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=_Commands)
@click.version_option(package_name="convoy")
def app() -> None:
    """Train image classifiers as a workflow: from a folder of images to a registered model.

    Type 'dvc repro' to run all stages that are out of date.
    """


@app.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_model
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Also write the answers here: .csv, .json or .parquet.",
)
def predict(paths: tuple[Path, ...], model: str, output: Path | None) -> None:
    """Classify image files or folders of them."""
    from pipeline.commands import predict as command

    command.run(paths, model, output)


@app.command()
@_images
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
@_model
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("reports/similar.png"),
    show_default=True,
    help="Draw them here: .png.",
)
@_json
def similar(
    images: tuple[Path, ...], *, k: int, among: str, model: str, output: Path, as_json: bool
) -> None:
    """Find the images of the data set nearest to IMAGES, files or folders of them.

    The model must be the one that made data/embeddings.
    """
    from pipeline.commands import similar as command

    command.run(images, k, among, model, output, as_json=as_json)


@app.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    default=Path("data/packed/test"),
    show_default=True,
    help="Packed images to judge by.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Also write all of it: .json.")
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="Draw images that only one has right: .png."
)
def compare(a: str, b: str, images: Path, output: Path | None, sheet: Path | None) -> None:
    """Compare two models: bundle folders, MLflow run ids or models:/NAME@ALIAS."""
    params = _params()
    from pipeline.commands import compare as command

    command.run(params, (a, b), images, output, sheet)


@app.command()
def rollback() -> None:
    """Make the champion before this one the champion again."""
    from pipeline.commands import rollback as command

    command.run(_params())


@app.command()
def sync() -> None:
    """Deliver to MLflow what trainings recorded while it was away."""
    from pipeline.commands import sync as command

    command.run(_params())


@app.command()
def summary() -> None:
    """Print the models' figures and where the results are."""
    from pipeline.commands import summary as command

    command.run(_params())


@app.command()
def doctor() -> None:
    """Say what of environment, data, tracking and cluster works."""
    from pipeline.commands import doctor as command

    if not command.run():
        raise click.exceptions.Exit(1)


@app.command()
@click.argument("bundle", required=False)
@click.option(
    "--stage",
    type=click.Choice(["train", "finetune"]),
    default="train",
    show_default=True,
    help="Whose frozen layers count, without BUNDLE.",
)
@click.option("--height", type=click.IntRange(min=1), help="Of an image in px, if another.")
@click.option("--width", type=click.IntRange(min=1), help="Likewise.")
@click.option("--classes", type=click.IntRange(min=1), help="Without BUNDLE and packed images.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@click.option("--matrix", metavar="LAYER", help="Draw this convolution as a dense layer's matrix.")
@click.option("--output", type=click.Path(path_type=Path), help="Draw it here: .png.")
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


@app.command("lr-find")
@click.option(
    "--stage",
    type=click.Choice(["train", "finetune"]),
    default="train",
    show_default=True,
    help="Whose network, images and recipe.",
)
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
    params = _params()
    from pipeline.commands import lr_find as command

    command.run(params, stage, lowest, highest, steps)


@app.command()
@_images
@_model
@click.option("--class", "asked", metavar="NAME", help="Look for it, not for the predicted class.")
@click.option(
    "--threshold",
    type=float,
    help="Where a box begins, of the map's maximum. Default: what localize chose for this model,"
    " else 0.2.",
)
@click.option("--full-size", is_flag=True, help="Keep the resolution of large images.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("reports/locate.png"),
    show_default=True,
    help="Draw the maps here: a .png, or a folder for one picture each.",
)
@_json
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


def _params() -> "Params":
    """Return the params that hold where this process runs."""
    from pipeline.params import load_params
    from pipeline.runtime.storage.job_context import placed

    return placed(load_params())


def _add_stage(name: str, summary: str) -> None:
    @app.command(name, help=summary)
    def stage() -> None:
        # Params first: their mistakes are reported before the stage's libraries are imported.
        params = _params()
        from pipeline.commands._stages import run_stage

        run_stage(name, params)


@app.command()
@click.argument("stages", nargs=-1)
@click.option("--with-changes", is_flag=True, help="Take along what is not committed.")
@click.option("--detach", is_flag=True, help="Submit, and do not wait for the end.")
def submit(stages: tuple[str, ...], with_changes: bool, detach: bool) -> None:
    """Run the whole workflow, or STAGES, as one job of the cluster."""
    params = _params()
    from pipeline.commands import submit as command

    command.run(params, stages, with_changes=with_changes, detach=detach)


@app.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; change nothing.")
@click.option("--accept", is_flag=True, help="Agree to what the latest call was held back for.")
def retrain(dry_run: bool, accept: bool) -> None:
    """Look for new images; train and promote, if rules and gate say so. For schedulers.

    Exit codes: 0 promoted, 1 failed, 2 a mistake in params.yaml or the arguments, 3 nothing to do,
    4 refused by the gate, 5 held back for a person. Another call that is being made is left alone
    (3).
    """
    params = _params()
    from pipeline.commands import retrain as command

    raise click.exceptions.Exit(command.run(params, dry_run=dry_run, accept=accept))


@app.command()
@click.option("--all", "every", is_flag=True, help="A line for each call, also with nothing to do.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("reports/retraining.png"),
    show_default=True,
    help="Draw it here: .png.",
)
def history(every: bool, output: Path) -> None:
    """Print and draw what the calls of convoy retrain have found and done."""
    params = _params()
    from pipeline.commands import history as command

    command.run(params, every, output)


@app.group(invoke_without_command=True)
@click.option("--follow", metavar="JOB", help="Show what this job prints until it has ended.")
@click.pass_context
def jobs(context: click.Context, follow: str | None) -> None:
    """List the jobs of the cluster; follow, stop or fetch one."""
    if context.invoked_subcommand:
        return
    params = _params()
    from pipeline.commands import jobs as command

    if follow:
        command.run_follow(params, follow)
    else:
        command.run_list(params)


@jobs.command()
@click.argument("job")
def stop(job: str) -> None:
    """Stop JOB; a training keeps its checkpoints."""
    params = _params()
    from pipeline.commands import jobs as command

    command.run_stop(params, job)


@jobs.command()
@click.argument("job", required=False)
def fetch(job: str | None) -> None:
    """Write the results of JOB here, or of the latest convoy submit."""
    params = _params()
    from pipeline.commands import jobs as command

    command.run_fetch(params, job)


@app.command(hidden=True)
def job() -> None:
    """Run the stage of the job that this process belongs to."""
    from pipeline.commands import _job as command

    command.run()


for _name, _summary in STAGES.items():
    _add_stage(_name, _summary)


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one per kind of end
    """Run one command and return its exit code: 0, 1 (doctor found something), 2 or 130."""
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="convoy")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except PipelineError as error:
        return _fail(str(error))
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "convoy"
        return _fail(f"{error.format_message().rstrip('.')}; see '{command} --help'")
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _fail("stopped", 130)
    except BrokenPipeError:
        # The reader of our output went away; nothing is wrong here, and Python must not say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # The disk is full, a folder cannot be written, a file stands where a folder should.
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}{_OS_ADVICE.get(error.errno or 0, '')}")
    return code if isinstance(code, int) else 0


# What to change, by the number of an operating system's error.
_OS_ADVICE = {
    errno.EACCES: "; see by ls -ld who may read and write it",
    errno.EPERM: "; see by ls -ld who may read and write it",
    errno.EROFS: "; mount its file system with the right to write, or name a path on another one",
    errno.ENOSPC: "; free some space: df names the full file system",
    errno.EDQUOT: "; free some space: quota names the limit",
}


def _fail(message: str, code: int = 2) -> int:
    message = " ".join(message.split())
    click.echo(f"convoy: {message}", err=True)
    if file := os.environ.get(MISTAKE):
        Path(file).write_text(message, encoding="utf-8")
    return code
