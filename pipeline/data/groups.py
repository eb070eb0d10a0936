r"""Images that belong together by their names: groups from a pattern, and a hint at such patterns.

A patient, a film or a specimen often has several images, whose names share a number:
`00000013_001.png` and `00000013_005.png`. Parted among training and test they flatter every figure.
"""

import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pipeline.errors import PipelineError

# Patterns that name a group in common ways, the coarsest first.
_PATTERNS = (
    r"([^/]+)/[^/]+$",  # the folder that an image lies in
    r"([^/0-9]*[0-9][^/_ -]*)[_ -][^/]*$",  # up to the first number: person7_bacteria_2.jpg
    r"([^/0-9]*[0-9][^/_ -]*[_ -][^/0-9]*[0-9][^/_ -]*)[_ -][^/]*$",  # to the second: IM_1_2_3.png
    r"([^/]*[0-9])[A-Za-z]\.[^/.]*$",  # all but a letter at the end: 0012a.png
)
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")

# What a set of names must show to be worth a hint.
_GROUPS = 10  # different ones at least, and so many for each class and given split:
_GROUPS_PER_CLASS = 3
_NAMED = 0.8  # share of the images that the pattern matches
_SHARING = 0.2  # share of those that are not alone in their group
_LARGEST = 0.2  # share of the images in one group, at most

# For all paths together; an ordinary pattern takes a microsecond for each.
_SECONDS = 10.0
_SECONDS_PER_PATH = 2e-5


@dataclass(frozen=True)
class Hint:
    """A pattern by which images seem to belong together.

    Attributes:
        pattern: for `split.group_from`.
        groups: of two images and more.
        images: in those.
        example: two paths of one group.
    """

    pattern: str
    groups: int
    images: int
    example: tuple[str, str]


def groups_from(pattern: str, paths: Sequence[str]) -> list[str | None]:
    """Name the group of each path; None where the pattern is found nowhere in it.

    The name is what the first group of the pattern matches, or else all that the pattern matches.

    Raises:
        PipelineError: the pattern takes for ever.
    """
    expression = re.compile(pattern)
    with _time_limit(pattern, _SECONDS + _SECONDS_PER_PATH * len(paths)):
        return [_name(expression, path) for path in paths]


def find_hint(
    paths: Sequence[str], labels: Sequence[str], splits: Sequence[str | None]
) -> Hint | None:
    """Look for groups in names: shared numbers, and folders below the class.

    Numbers that only count (`IMG_0001`, `00001.png`), that stand for the class, or for a date, are
    none.

    Args:
        paths: of the images, relative to the root.
        labels: their classes.
        splits: their given splits.
    """
    if not paths:
        return None
    classes = len(set(zip(labels, splits, strict=True)))
    folders = [path.rpartition("/")[0] for path in paths]
    # A name counts within a folder: each folder may have its own 00001.png.
    for pattern in _PATTERNS:
        if names := _most_named(pattern, paths):
            keys = [None if n is None else (f, n) for f, n in zip(folders, names, strict=True)]
            if hint := _judge(pattern, paths, keys, classes):
                return hint
    return None


def _most_named(pattern: str, paths: Sequence[str]) -> list[str | None]:
    """Name the group of each path; nothing as soon as too few can have one for a hint."""
    names: list[str | None] = []
    piece = max(len(paths) // 20, 100)
    for start in range(0, len(paths), piece):
        names += groups_from(pattern, paths[start : start + piece])
        if len(paths) - names.count(None) < _NAMED * len(paths):
            return []
    return names


def crossing(groups: Sequence[str | None], splits: Sequence[str]) -> tuple[int, int]:
    """Count the test images, and those of them whose group has images in train or val too."""
    elsewhere = {g for g, split in zip(groups, splits, strict=True) if split != "test"} - {None}
    test = [g for g, split in zip(groups, splits, strict=True) if split == "test"]
    return len(test), sum(group in elsewhere for group in test)


def _name(expression: re.Pattern[str], path: str) -> str | None:
    found = expression.search(path)
    if found is None:
        return None
    name: str | None = found[1] if expression.groups else found[0]
    return name or None  # an optional part, or nothing at all, names no group


def _judge(
    pattern: str, paths: Sequence[str], keys: Sequence[tuple[str, str] | None], classes: int
) -> Hint | None:
    sizes = Counter(key for key in keys if key is not None)
    named = sizes.total()
    shared = {key: size for key, size in sizes.items() if size > 1}
    different = {name for _, name in sizes}
    dates = sum(_DATE.search(name) is not None for name in different)
    if (
        len(different) < _GROUPS
        or len(sizes) < _GROUPS_PER_CLASS * classes
        or named < _NAMED * len(paths)
        or sum(shared.values()) < _SHARING * named
        or max(sizes.values()) > _LARGEST * len(paths)
        or dates > len(different) / 2
    ):
        return None
    largest = max(shared, key=lambda key: (shared[key], key))
    first, second = [path for path, key in zip(paths, keys, strict=True) if key == largest][:2]
    return Hint(pattern, len(shared), sum(shared.values()), (first, second))


@contextmanager
def _time_limit(pattern: str, seconds: float) -> Iterator[None]:
    """Stop the block after some time: nested repeats such as (a+)+ take longer than a life.

    The matching of `re` looks for signals now and then. They reach the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise PipelineError(
            f"split.group_from: the pattern {pattern} takes longer than {seconds:.0f} s; avoid"
            " repeats within repeats, such as (a+)+"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
