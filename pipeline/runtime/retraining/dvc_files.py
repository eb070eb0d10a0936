"""Files that DVC writes in place: one that is killed while it does leaves them cut off.

DVC writes all of dvc.lock after each stage, which takes a tenth of a second. A DVC that finds half
of one refuses all work.
"""

import json
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import atomic_path

DVC_LOCK = Path("dvc.lock")
_PATHS_IN_USE = Path(".dvc/tmp/rwlock")


class DvcFiles:
    """Keeps a copy of dvc.lock, for when DVC leaves it cut off."""

    def __init__(self, copy: Path) -> None:
        """Take where the copy is kept."""
        self._copy = copy
        self._seen: tuple[int, int] | None = None

    def keep(self) -> None:
        """Copy dvc.lock, if it has changed since it was copied, and is whole."""
        try:
            status = DVC_LOCK.stat()
            seen = status.st_mtime_ns, status.st_size
            if seen == self._seen or not _is_whole(content := DVC_LOCK.read_bytes()):
                return
        except FileNotFoundError:
            return
        _write(self._copy, content)
        self._seen = seen

    def mend(self) -> str | None:
        """Repair what a killed DVC has left; to be called where none runs.

        Results that are newer than the copy of dvc.lock are in DVC's run cache, or are made again.

        Returns:
            What was done, in words; None where there was nothing to do.

        Raises:
            PipelineError: dvc.lock is cut off, and there is no copy of it.
        """
        # It lists the paths that running stages use.
        if _PATHS_IN_USE.exists() and not _is_json(_PATHS_IN_USE.read_bytes()):
            _PATHS_IN_USE.unlink()
        if not DVC_LOCK.exists() or _is_whole(DVC_LOCK.read_bytes()):
            self.keep()
            return None
        if not self._copy.exists():
            raise PipelineError(
                f"{DVC_LOCK} is not as DVC writes it: one that is killed while it writes leaves it"
                f" cut off; restore it, as by git checkout {DVC_LOCK}"
            )
        _write(DVC_LOCK, self._copy.read_bytes())
        return f"{DVC_LOCK} was cut off when DVC was killed; it is again what it was before"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _is_whole(content: bytes) -> bool:
    """Whether DVC would take this for a dvc.lock."""
    # They take 0.2 s to import, which a call with nothing to do need not spend.
    from dvc.dvcfile import Lockfile  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.utils.serialize import parse_yaml  # type: ignore[import-untyped]

    try:
        Lockfile.validate(parse_yaml(content.decode(), str(DVC_LOCK)))
    except (DvcException, UnicodeDecodeError):
        return False
    return True
