"""Files below a folder, by way of symbolic links too, without opening any."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import PipelineError
from pipeline.files import as_text

_BROKEN_LINK = "broken link: "

# What systems leave beside the files of people, as well as all hidden files.
_LEFTOVERS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}

# Notes, tables of labels and the like, which lie beside images and are none.
_NOTES = {
    *(".cfg", ".csv", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log", ".md", ".pdf"),
    *(".py", ".rst", ".sh", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml"),
}
_NOTES_WITHOUT_SUFFIX = {"authors", "changelog", "citation", "copying", "license", "readme"}


class File(NamedTuple):
    """One file.

    Attributes:
        path: relative to the folder of the source, with forward slashes.
        version: its size and modification time; '' where there is an obstacle.
        obstacle: why it is not to be opened, as 'kind: detail'; None for a readable file.
    """

    path: str
    version: str
    obstacle: str | None

    @property
    def is_broken_link(self) -> bool:
        """Whether it is a link that leads nowhere or in a circle."""
        return self.obstacle is not None and self.obstacle.startswith(_BROKEN_LINK)


def is_note(path: str) -> bool:
    """Whether a file is by its name no image, but notes or a table of labels."""
    name = path.rpartition("/")[2].lower()
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" in _NOTES if stem and dot else name in _NOTES_WITHOUT_SUFFIX


@dataclass(frozen=True)
class LocalFiles:
    """The files below a folder of this machine.

    Attributes:
        root: of the paths.
    """

    root: Path

    def exists(self) -> bool:
        """Whether there is such a folder."""
        return self.root.is_dir()

    def look(self, path: str) -> File:
        """Look at the file that a path leads to."""
        whole = f"{self.root}/{path}"
        try:
            status = os.stat(whole)  # noqa: PTH116 - once per file; a Path costs several times more
        except OSError as error:
            return File(path, "", _obstacle(whole, error))
        if stat.S_ISDIR(status.st_mode):
            return File(path, "", "a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            return File(path, "", "not a regular file")  # reading a pipe may never end
        return File(path, f"{status.st_size} {status.st_mtime_ns}", None)

    def walk(self, folder: str = "") -> Iterator[File]:
        """Yield all files below a folder, in the order of their names.

        Hidden files and those that systems leave behind are passed over.

        Links are followed. One that leads nowhere, or back to a folder that it lies in, is yielded
        with an obstacle.

        Args:
            folder: relative to `root`; '' for all of it.

        Raises:
            PipelineError: a folder cannot be listed.
        """
        yield from self._walk(folder, _descent(self.root, folder))

    def children(self, folder: str = "") -> tuple[list[str], list[File]]:
        """Return the names of the folders, and the files, directly in a folder.

        As in `walk`, hidden ones and left-overs are passed over. A link in a circle counts as a
        file.
        """
        descent = _descent(self.root, folder)
        folders, files = [], []
        for entry in _entries(self.root / folder):
            path = _join(folder, entry.name)
            if not _is_folder(entry):
                files.append(self.look(path))
            elif entry.is_symlink() and _holds(os.path.realpath(entry.path), descent):
                files.append(_circle(path, entry.path))
            else:
                folders.append(entry.name)
        return folders, files

    def _walk(self, folder: str, descent: tuple[str, ...]) -> Iterator[File]:
        for entry in _entries(self.root / folder):
            path = _join(folder, entry.name)
            if not _is_folder(entry):
                yield self.look(path)
            elif entry.is_symlink():
                target = os.path.realpath(entry.path)
                if _holds(target, descent):
                    yield _circle(path, entry.path)
                else:
                    yield from self._walk(path, (*descent, target))
            else:
                yield from self._walk(path, (*descent, f"{descent[-1]}/{entry.name}"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not is_left_over(entry.name)]
    except OSError as error:
        raise PipelineError(f"cannot list {folder}: {error.strerror}; allow reading it") from error
    return sorted(shown, key=lambda entry: entry.name)


def is_left_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a system."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _descent(root: Path, folder: str) -> tuple[str, ...]:
    """Return the real paths of the folders from `root` down to `folder`."""
    parts = folder.split("/") if folder else []
    return tuple(os.path.realpath(root.joinpath(*parts[:depth])) for depth in range(len(parts) + 1))


def _holds(target: str, descent: tuple[str, ...]) -> bool:
    """Whether one of the folders of the descent is `target` or lies in it."""
    inside = target.rstrip(os.sep) + os.sep
    return any(folder == target or folder.startswith(inside) for folder in descent)


def _circle(path: str, whole: str) -> File:
    return File(path, "", f"{_BROKEN_LINK}leads in a circle, to {_target(whole)}")


def _obstacle(whole: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{_BROKEN_LINK}leads in a circle, to {_target(whole)}"
    if os.path.islink(whole):  # noqa: PTH114
        return f"{_BROKEN_LINK}leads to {_target(whole)}: {error.strerror}"
    return f"unreadable: {error.strerror}"


def _target(link: str) -> str:
    """Return where a link leads, in its own words."""
    try:
        return as_text(os.readlink(link))  # noqa: PTH115
    except OSError:  # the circle lies among the folders above
        return "itself"
