"""The index: one row per image, with its problem and its cluster of near duplicates."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.groups import find_hint
from pipeline.data.indexing.near_duplicates import near_duplicate_clusters
from pipeline.data.tables import BOX, INDEX, with_boxes
from pipeline.errors import PipelineError, some

_COPY = "copy of "
_EXAMPLES = 20

Texts = npt.NDArray[Any]


def build_index(
    measured: pa.Table, near_duplicate_bits: int, same: Callable[[str, str], bool]
) -> pa.Table:
    """Judge measured images together: conflicting labels, copies, near duplicates.

    Args:
        measured: from `measure_all`, sorted by path.
        near_duplicate_bits: perceptual hashes at most this far apart may show one picture.
        same: whether two paths do, such as `Pictures.same`.

    Returns:
        `INDEX`, with `BOX` where the source gives boxes; sorted by path.
    """
    rows = measured.select(["path", "label", "split", "sha256", "problem"]).to_pydict()
    problems = _judge_copies(**rows)
    table = _replace(measured, "problem", pa.array(problems, pa.string()))
    usable = np.flatnonzero([problem is None for problem in problems])
    clusters = np.full(len(table), None, object)
    clusters[usable] = _cluster_names(table.take(usable), near_duplicate_bits, same)
    table = table.append_column("cluster", pa.array(clusters, pa.string()))
    schema = with_boxes(INDEX, table.column_names)
    return pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)


def check_boxes(measured: pa.Table, manifest: str) -> None:
    """Refuse boxes that reach beyond their image.

    Args:
        measured: from `measure_all`.
        manifest: which the boxes come from.

    Raises:
        PipelineError: one does; names the row of the manifest.
    """
    if "row" not in measured.column_names:
        return
    names = ("row", "path", "width", "height", *BOX.names)
    for row, path, width, height, x, y, w, h in zip(
        *(measured[name].to_pylist() for name in names), strict=True
    ):
        if x is None or width is None:  # no box, or no image
            continue
        if x + w > width or y + h > height:
            raise PipelineError(
                f"{manifest} row {row}: the box x {x:g}, y {y:g}, w {w:g}, h {h:g} reaches beyond"
                f" {path}, which has {width} x {height} px; boxes count from the upper left corner"
                " of the file's pixels; correct the row"
            )


def check_classes(index: pa.Table, report: Path) -> None:
    """Refuse an index that no classifier can be trained on.

    Args:
        index: from `build_index`.
        report: where all problems are listed.

    Raises:
        PipelineError: fewer than two classes, or a class without a usable image.
    """
    labels = sorted(set(index["label"].drop_null().to_pylist()))
    if len(labels) < 2:
        raise PipelineError(
            f"found {f'the single class {labels[0]}' if labels else 'no class'}, expected two or"
            " more; add a folder, or a label in the manifest or the Parquet file, for each further"
            f" class; all problems are listed in {report}"
        )
    usable = set(index.filter(pc.is_null(index["problem"]))["label"].to_pylist())
    if len(usable) < len(labels):
        left_out = index.filter(pc.is_valid(index["problem"])).to_pylist()
        unusable = set(labels) - usable
        first = {row["label"]: row for row in reversed(left_out) if row["label"] in unusable}
        found = some(
            (f"{label} ({row['path']}: {row['problem']})" for label, row in sorted(first.items())),
            limit=3,
        )
        raise PipelineError(
            f"no usable image in the classes {found}; all problems are listed in {report}; repair"
            " the files, add others or remove the classes"
        )


def bad_rows(index: pa.Table) -> pa.Table:
    """Return the rows that cannot be used; a mere copy of a row that can is not among them."""
    copies = pc.starts_with(index["problem"], _COPY)
    return index.filter(pc.and_(pc.is_valid(index["problem"]), pc.invert(copies)))


def index_report(index: pa.Table, ignored: tuple[str, ...]) -> dict[str, Any]:
    """Sum the index up for reports/data.json.

    Args:
        index: from `build_index`.
        ignored: files that belong to no class.
    """
    usable = index.filter(pc.is_null(index["problem"]))
    left_out = index.filter(pc.is_valid(index["problem"]))
    reasons = [problem.split(":")[0] for problem in left_out["problem"].to_pylist()]
    reasons = ["copy" if reason.startswith(_COPY) else reason for reason in reasons]
    bad = bad_rows(index)
    return {
        "files": len(index),
        "usable": len(usable),
        "bad": len(bad),
        "bad_fraction": len(bad) / len(index),
        "problems": _counts(reasons),
        "left_out": left_out.select(["path", "problem"]).to_pylist(),
        "ignored": list(ignored),
        "classes": _counts(usable["label"].to_pylist()),
        "given_splits": _given_splits(usable),
        "modes": _counts(usable["mode"].to_pylist()),
        "bits": _counts([str(bits) for bits in usable["bits"].to_pylist()]),
        "width": _range(usable["width"].to_numpy()),
        "height": _range(usable["height"].to_numpy()),
        "near_duplicates": _near_duplicates(usable),
        "group_hint": _group_hint(usable),
    }


def _group_hint(usable: pa.Table) -> dict[str, Any] | None:
    """Describe groups that names suggest, where none are given."""
    if usable["group"].null_count < len(usable):
        return None
    hint = find_hint(*(usable[name].to_pylist() for name in ("path", "label", "split")))
    return None if hint is None else {**asdict(hint), "example": list(hint.example)}


def _judge_copies(
    path: list[str],
    label: list[str],
    split: list[str | None],
    sha256: list[str | None],
    problem: list[str | None],
) -> list[str | None]:
    """Return each row's problem, with those that show only among rows of the same content.

    Copies in different given splits are left for the split stage to judge.
    """
    problems = list(problem)
    same: dict[str, list[int]] = {}
    for row, content in enumerate(sha256):
        if content is not None and problem[row] is None:
            same.setdefault(content, []).append(row)
    for rows in (rows for rows in same.values() if len(rows) > 1):
        first_of_split: dict[str | None, int] = {}
        # The first row, and the first under another label: one of them differs from each row.
        differing = next((row for row in rows if label[row] != label[rows[0]]), None)
        for row in rows:
            other = differing if label[row] == label[rows[0]] else rows[0]
            if other is not None:
                problems[row] = (
                    f"same content under two labels: {label[row]}, and {label[other]} as"
                    f" {path[other]}"
                )
            elif (first := first_of_split.setdefault(split[row], row)) != row:
                problems[row] = _COPY + path[first]
    return problems


def _cluster_names(usable: pa.Table, bits: int, same: Callable[[str, str], bool]) -> Texts:
    """Name each row's cluster of near duplicates after the smallest content hash in it."""
    if not len(usable):
        return np.empty(0, object)
    names = np.array(usable["sha256"].to_pylist(), object)
    contents = names.astype("S")  # hexadecimal digits; compared faster than text
    paths = usable["path"].to_pylist()
    hashes, thumbnails = _byte_rows(usable["phash"]), _byte_rows(usable["thumbnail"])
    numbers = near_duplicate_clusters(
        contents, hashes, thumbnails, bits, lambda a, b: same(paths[a], paths[b])
    )
    order = np.lexsort((contents, numbers))
    _, first = np.unique(numbers[order], return_index=True)
    named: Texts = names[order[first]][numbers]
    return named


def _byte_rows(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Turn n fixed-size binaries into n x size bytes."""
    size, whole = column.type.byte_width, column.combine_chunks()
    stored = np.frombuffer(whole.buffers()[1], np.uint8)
    return stored[whole.offset * size : (whole.offset + len(whole)) * size].reshape(-1, size)


def _near_duplicates(usable: pa.Table) -> dict[str, Any]:
    """Count the clusters of two and more, and show the first."""
    members: dict[str, list[int]] = {}
    for row, cluster in enumerate(usable["cluster"].to_pylist()):
        members.setdefault(cluster, []).append(row)
    clusters = [rows for rows in members.values() if len(rows) > 1]
    paths, labels, splits = (usable[name].to_pylist() for name in ("path", "label", "split"))
    return {
        "clusters": len(clusters),
        "images": sum(len(rows) for rows in clusters),
        "clusters_with_several_labels": sum(len({labels[r] for r in c}) > 1 for c in clusters),
        "clusters_across_given_splits": sum(len({splits[r] for r in c}) > 1 for c in clusters),
        "examples": [[paths[row] for row in rows[:_EXAMPLES]] for rows in clusters[:_EXAMPLES]],
    }


def _given_splits(usable: pa.Table) -> dict[str, dict[str, int]]:
    splits = np.array(usable["split"].to_pylist(), object)
    labels = np.array(usable["label"].to_pylist(), object)
    given = [name for name in ("train", "val", "test") if (splits == name).any()]
    return {name: _counts(labels[splits == name].tolist()) for name in given}


def _counts(names: list[str]) -> dict[str, int]:
    values, counts = np.unique(np.array(names, str), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _range(pixels: npt.NDArray[np.int32]) -> dict[str, float] | None:
    if not len(pixels):
        return None
    return {"min": int(pixels.min()), "median": float(np.median(pixels)), "max": int(pixels.max())}


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
