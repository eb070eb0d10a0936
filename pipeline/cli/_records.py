"""Commands on what is recorded: the registry, the store, the reports."""

import click

from pipeline.cli._shared import read_params


@click.command()
def rollback() -> None:
    """Make the champion before this one the champion again."""
    from pipeline.commands import rollback as command

    command.run(read_params())


@click.command()
def sync() -> None:
    """Deliver to MLflow what trainings recorded while it was away."""
    from pipeline.commands import sync as command

    command.run(read_params())


@click.command()
def summary() -> None:
    """Print the models' figures and where the results are."""
    from pipeline.commands import summary as command

    command.run(read_params())


@click.command()
def doctor() -> None:
    """Say what of environment, data, tracking and cluster works."""
    from pipeline.commands import doctor as command

    if not command.run():
        raise click.exceptions.Exit(1)
