"""Scheduled retraining, and what it has done."""

from pathlib import Path

import click

from pipeline.cli._shared import path_option, read_params


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; change nothing.")
@click.option("--accept", is_flag=True, help="Agree to what the latest call was held back for.")
def retrain(dry_run: bool, accept: bool) -> None:
    """Look for new images; train and promote, if rules and gate say so. For schedulers.

    Exit codes: 0 promoted, 1 failed, 2 a mistake in params.yaml or the arguments, 3 nothing to do,
    4 refused by the gate, 5 held back for a person. Another call that is being made is left alone
    (3).
    """
    params = read_params()
    from pipeline.commands import retrain as command

    raise click.exceptions.Exit(command.run(params, dry_run=dry_run, accept=accept))


@click.command()
@click.option("--all", "every", is_flag=True, help="A line for each call, also with nothing to do.")
@path_option("--output", "Draw it here: .png.", default="reports/retraining.png")
def history(every: bool, output: Path) -> None:
    """Print and draw what the calls of convoy retrain have found and done."""
    params = read_params()
    from pipeline.commands import history as command

    command.run(params, every, output)
