"""What has happened to the images since the last training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.retraining.record import Changes

_EXAMPLES = 20  # of each kind


@dataclass(frozen=True)
class Image:
    """One image of an index, or of the images known before."""

    path: str
    label: str


@dataclass(frozen=True)
class _File(Image):
    content: str


def compare_images(known: pa.Table, index: pa.Table) -> tuple[Changes, list[int]]:
    """Compare the images of now with those of before, by content.

    Args:
        known: path, label and sha256 of the images before, one row for each path.
        index: of the images now: also problem and cluster, see `pipeline.data.tables`.

    Returns:
        What has changed, and the rows of the index with the new images that can be used.
    """
    before = _by_content(known)
    usable = index.filter(pc.is_null(index["problem"]))
    now = _by_content(usable)
    paths, contents, problems = (index[name].to_pylist() for name in ("path", "sha256", "problem"))
    new = {content: image for content, image in now.items() if content not in before}
    # Known content that cannot be used any more, such as a file with a second label, has not gone.
    there = set(contents)
    files = set(zip(paths, contents, strict=True))
    vanished = {content: image for content, image in before.items() if content not in there}
    moved, relabelled = [], []
    for content in before.keys() & now.keys():
        old, image = before[content], now[content]
        if old.label != image.label:
            relabelled.append(f"{old.path} ({old.label}) is {image.path} ({image.label}) now")
        elif (old.path, content) not in files:
            moved.append(f"{old.path} is {image.path} now")
    conflicting = _conflicting(index, before)
    unusable = [
        f"{path} ({problem})"
        for path, content, problem in zip(paths, contents, problems, strict=True)
        if problem is not None and content not in before and not problem.startswith("copy of ")
    ]
    counts = Counter(image.label for image in now.values())
    labels_before = {image.label for image in before.values()}
    examples = {
        "new": [f"{image.path} ({image.label})" for image in new.values()],
        "vanished": [f"{image.path} ({image.label})" for image in vanished.values()],
        "moved": moved,
        "relabelled": relabelled,
        "conflicting": conflicting,
        "unusable": unusable,
    }
    changes = Changes(
        images=len(now),
        known=len(before),
        new=len(new),
        vanished=len(vanished),
        moved=len(moved),
        relabelled=len(relabelled),
        conflicting=len(conflicting),
        unusable=len(unusable),
        new_classes=tuple(sorted(set(counts) - labels_before)),
        vanished_classes=tuple(sorted(labels_before - set(counts))),
        classes=dict(sorted(counts.items())),
        examples={kind: tuple(sorted(texts)[:_EXAMPLES]) for kind, texts in examples.items()},
    )
    rows = [row for row, problem in enumerate(problems) if problem is None and contents[row] in new]
    return changes, rows


def beyond(offered: pa.Table, known: pa.Table, index: pa.Table) -> int:
    """Count what a person has not seen who agreed to some images: what has changed since.

    Args:
        offered: the images that were agreed to: path, label and sha256.
        known: those of the last training, likewise.
        index: of the images now.

    Returns:
        Images that have come or have another label since, and known ones that have vanished since.
        New images that have been taken away do not count.
    """
    agreed, before, now = (
        {content: image.label for content, image in _by_content(table).items()}
        for table in (offered, known, index.filter(pc.is_null(index["problem"])))
    )
    came = sum(label not in (agreed.get(one), before.get(one)) for one, label in now.items())
    vanished = (before.keys() & agreed.keys()) - set(index["sha256"].to_pylist())
    return came + len(vanished)


def _by_content(table: pa.Table) -> dict[str, Image]:
    """Return one image for each content, the first by path."""
    columns = (table[name].to_pylist() for name in ("sha256", "path", "label"))
    found: dict[str, Image] = {}
    for content, path, label in zip(*columns, strict=True):
        found.setdefault(content, Image(path, label))
    return found


def _conflicting(index: pa.Table, before: Mapping[str, Image]) -> list[str]:
    """Describe the new files that another file contradicts: the same picture, another label."""
    columns = (index[name].to_pylist() for name in ("path", "label", "sha256", "cluster"))
    pictures: dict[str, list[_File]] = {}
    for path, label, content, cluster in zip(*columns, strict=True):
        if content is not None and label is not None:
            # What cannot be used is in no cluster, and still has a content.
            pictures.setdefault(cluster or content, []).append(_File(path, label, content))
    found = []
    for members in pictures.values():
        if len({one.label for one in members}) > 1:
            for one in members:
                other = next(other for other in members if other.label != one.label)
                if _is_new(one, members, before):
                    found.append(f"{one.path} ({one.label}) shows what {other.path} shows")
    return found


def _is_new(one: _File, members: Sequence[_File], before: Mapping[str, Image]) -> bool:
    """Whether a file is of a new content, or is a second one of a known, under another label."""
    known = before.get(one.content)
    if known is None:
        return True
    labels = {other.label for other in members if other.content == one.content}
    return len(labels) > 1 and one.label != known.label
