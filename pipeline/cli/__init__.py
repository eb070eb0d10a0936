"""Arguments in, exit code out.

A mistake of the user becomes one line on stderr and exit code 2. Nothing heavy is imported here:
`convoy --help` shows what there is before torch would have been found.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli._app import STAGES, app
from pipeline.errors import MISTAKE, PipelineError

__all__ = ["STAGES", "app", "run"]


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
