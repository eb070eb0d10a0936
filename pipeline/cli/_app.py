"""All commands, in the order in which `convoy --help` lists them."""

import click

from pipeline.cli import _cluster, _images, _models, _records, _retraining
from pipeline.cli._shared import read_params
from pipeline.errors import did_you_mean

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


@click.group(cls=_Commands)
@click.version_option(package_name="convoy")
def app() -> None:
    """Train image classifiers as a workflow: from a folder of images to a registered model.

    Type 'dvc repro' to run all stages that are out of date.
    """


for _command in (
    _images.predict,
    _images.similar,
    _models.compare,
    _records.rollback,
    _records.sync,
    _records.summary,
    _records.doctor,
    _models.describe,
    _models.lr_find,
    _images.locate,
    _cluster.submit,
    _retraining.retrain,
    _retraining.history,
    _cluster.jobs,
    _cluster.job,
):
    app.add_command(_command)


def _stage(name: str, summary: str) -> click.Command:
    @click.command(name, help=summary)
    def stage() -> None:
        # Params first: their mistakes are reported before the stage's libraries are imported.
        params = read_params()
        from pipeline.commands._stages import run_stage

        run_stage(name, params)

    return stage


for _name, _summary in STAGES.items():
    app.add_command(_stage(_name, _summary))
