"""Commands on jobs of a cluster."""

import click

from pipeline.cli._shared import read_params


@click.command()
@click.argument("stages", nargs=-1)
@click.option("--with-changes", is_flag=True, help="Take along what is not committed.")
@click.option("--detach", is_flag=True, help="Submit, and do not wait for the end.")
def submit(stages: tuple[str, ...], with_changes: bool, detach: bool) -> None:
    """Run the whole workflow, or STAGES, as one job of the cluster."""
    params = read_params()
    from pipeline.commands import submit as command

    command.run(params, stages, with_changes=with_changes, detach=detach)


@click.group(invoke_without_command=True)
@click.option("--follow", metavar="JOB", help="Show what this job prints until it has ended.")
@click.pass_context
def jobs(context: click.Context, follow: str | None) -> None:
    """List the jobs of the cluster; follow, stop or fetch one."""
    if context.invoked_subcommand:
        return
    params = read_params()
    from pipeline.commands import jobs as command

    if follow:
        command.run_follow(params, follow)
    else:
        command.run_list(params)


@jobs.command()
@click.argument("job")
def stop(job: str) -> None:
    """Stop JOB; a training keeps its checkpoints."""
    params = read_params()
    from pipeline.commands import jobs as command

    command.run_stop(params, job)


@jobs.command()
@click.argument("job", required=False)
def fetch(job: str | None) -> None:
    """Write the results of JOB here, or of the latest convoy submit."""
    params = read_params()
    from pipeline.commands import jobs as command

    command.run_fetch(params, job)


@click.command(hidden=True)
def job() -> None:
    """Run the stage of the job that this process belongs to."""
    from pipeline.commands import _job as command

    command.run()
