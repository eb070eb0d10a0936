"""Which process did something: told apart from a later one with the same number."""

import platform
import socket
from collections.abc import Iterator

import psutil


def this_host() -> str:
    """Return the name of this machine."""
    return socket.gethostname() or platform.node()


def this_process() -> str:
    """Return what identifies this process on this machine: its number and start."""
    return _identity(psutil.Process())


def is_running(process: str) -> bool:
    """Say whether a process that `this_process` named still runs on this machine."""
    number, _, _ = process.partition(" ")
    try:
        found = psutil.Process(int(number))
        return _identity(found) == process and found.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False


def ancestors() -> Iterator[psutil.Process]:
    """Yield the parent of this process, its parent and so on, as far as they can be seen."""
    process: psutil.Process | None = psutil.Process()
    while process:
        try:
            process = process.parent()
        except psutil.Error:
            return
        if process:
            yield process


def _identity(process: psutil.Process) -> str:
    # Whole seconds: the clock may be set between two looks, and then the start seems to shift.
    return f"{process.pid} {process.create_time():.0f}"
