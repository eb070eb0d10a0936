"""The processes without which a cluster that this process started is none."""

import psutil

_NAMES = {"gcs_server", "raylet"}


class ClusterProcesses:
    """Looks after the processes of the one cluster that is started after this is made."""

    def __init__(self) -> None:
        """Remember the children of this process, which belong to no cluster or to another."""
        self._before = set(psutil.Process().children())
        self._known: dict[str, psutil.Process] = {}

    @property
    def dead(self) -> str:
        """The names of those that were seen and run no more.

        A process that lives and dies between two calls is not seen.
        """
        if len(self._known) < len(_NAMES):
            self._look()
        dead = [name for name, process in self._known.items() if not _runs(process)]
        return " and ".join(sorted(dead))

    def _look(self) -> None:
        for process in psutil.Process().children():
            if process not in self._before:
                try:
                    name = process.name()
                except psutil.NoSuchProcess:
                    continue
                if name in _NAMES:
                    self._known.setdefault(name, process)


def _runs(process: psutil.Process) -> bool:
    # One that nobody has waited for is still listed, as a zombie.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
