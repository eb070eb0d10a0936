import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.indexing.index import bad_rows, build_index, check_classes, index_report
from pipeline.data.tables import INDEX
from pipeline.errors import PipelineError

REPORT = Path("reports/data.json")
HASH = pa.binary(32)
THUMBNAIL = pa.binary(192)


def _row(path: str, sha256: str | None = None, **given: Any) -> dict[str, Any]:
    """A measured file; each `sha256` is a picture of its own, unlike all others."""
    rng = np.random.default_rng(list((sha256 or path).encode()))
    row = {
        "path": path,
        "label": path.split("/", maxsplit=1)[0],
        "split": None,
        "group": None,
        "bytes": 100,
        "mtime_ns": 1,
        "sha256": sha256 or path,
        "phash": rng.bytes(32),
        "thumbnail": rng.bytes(192),
        "width": 8,
        "height": 9,
        "mode": "L",
        "bits": 8,
        "problem": None,
    }
    return row | given


def _measured(*rows: dict[str, Any]) -> pa.Table:
    ordered = sorted(rows, key=lambda row: row["path"])
    table = pa.Table.from_pylist(ordered)
    for name, kind in (("phash", HASH), ("thumbnail", THUMBNAIL)):
        values = pa.array([row[name] for row in ordered], kind)
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _same(*_: str) -> bool:
    return True


def _problems(*rows: dict[str, Any]) -> dict[str, str | None]:
    index = build_index(_measured(*rows), 20, _same)
    return dict(zip(index["path"].to_pylist(), index["problem"].to_pylist(), strict=True))


def test_the_index_has_its_columns_sorted_by_path() -> None:
    index = build_index(_measured(_row("b/1"), _row("a/1", split="train", group="g")), 20, _same)
    assert index.schema.equals(INDEX)
    assert index.schema.metadata is None
    assert index["path"].to_pylist() == ["a/1", "b/1"]
    assert index["split"].to_pylist() == ["train", None]
    assert index["group"].to_pylist() == ["g", None]


def test_same_content_under_two_labels_is_left_out_everywhere() -> None:
    assert _problems(_row("a/1", "x"), _row("a/2", "x"), _row("b/1", "x"), _row("b/2")) == {
        "a/1": "same content under two labels: a, and b as b/1",
        "a/2": "same content under two labels: a, and b as b/1",
        "b/1": "same content under two labels: b, and a as a/1",
        "b/2": None,
    }


def test_copies_under_one_label_leave_the_first() -> None:
    assert _problems(_row("a/1", "x"), _row("a/2", "x"), _row("a/3", "x"), _row("b/2")) == {
        "a/1": None,
        "a/2": "copy of a/1",
        "a/3": "copy of a/1",
        "b/2": None,
    }


def test_copies_in_two_given_splits_are_for_the_split_stage() -> None:
    rows = [
        _row("train/a", "x", label="a", split="train"),
        _row("train/b", "x", label="a", split="train"),
        _row("test/a", "x", label="a", split="test"),
        _row("test/b", "y", label="b", split="test"),
    ]
    assert _problems(*rows) == {
        "test/a": None,
        "test/b": None,
        "train/a": None,
        "train/b": "copy of train/a",
    }
    index = build_index(_measured(*rows), 20, _same)
    clusters = dict(zip(index["path"].to_pylist(), index["cluster"].to_pylist(), strict=True))
    assert clusters == {"test/a": "x", "test/b": "y", "train/a": "x", "train/b": None}


def test_a_hundred_thousand_identical_files_take_seconds() -> None:
    row = _row("a/1", "x")
    count = 100_000
    table = _measured(row).take(pa.array(np.zeros(count, np.int64)))
    paths = pa.array([f"a/{number:06d}" for number in range(count)])
    table = table.set_column(table.column_names.index("path"), "path", paths)

    def refuse(*_: str) -> bool:
        raise AssertionError("the same content was compared")

    started = time.perf_counter()
    index = build_index(table.cast(_typed(table.schema)), 20, refuse)
    assert time.perf_counter() - started < 15
    assert index["problem"].to_pylist() == [None] + ["copy of a/000000"] * (count - 1)


def test_near_duplicates_must_have_the_same_pixels() -> None:
    picture = {name: _row("a/1")[name] for name in ("phash", "thumbnail")}
    rows = [_row(f"a/{number}", str(number), **picture) for number in range(3)]
    asked = []

    def same(first: str, second: str) -> bool:
        asked.append((first, second))
        return {first, second} == {"a/0", "a/2"}

    index = build_index(_measured(*rows), 20, same)
    assert index["cluster"].to_pylist() == ["0", "1", "0"]
    assert len(asked) == len(set(asked)) <= 3


def test_a_file_with_a_problem_is_no_copy_and_in_no_cluster() -> None:
    broken = {"problem": "empty: 0 bytes", "phash": None, "thumbnail": None}
    rows = [_row("a/1", "x", **broken), _row("b/1", "x", **broken), _row("b/2")]
    assert _problems(*rows) == {"a/1": "empty: 0 bytes", "b/1": "empty: 0 bytes", "b/2": None}
    assert build_index(_measured(*rows), 20, _same)["cluster"].to_pylist() == [None, None, "b/2"]


def test_a_cluster_is_called_after_its_smallest_hash() -> None:
    picture = {name: _row("a/1")[name] for name in ("phash", "thumbnail")}
    near = dict(picture, phash=bytes([picture["phash"][0] ^ 7]) + picture["phash"][1:])
    rows = [_row("a/1", "m", **picture), _row("a/2", "k", **near), _row("b/1", "z")]
    assert build_index(_measured(*rows), 3, _same)["cluster"].to_pylist() == ["k", "k", "z"]
    assert build_index(_measured(*rows), 2, _same)["cluster"].to_pylist() == ["m", "k", "z"]


def test_nothing_usable() -> None:
    gone = {"problem": "unreadable: x", "sha256": None, "phash": None, "thumbnail": None}
    gone |= {"width": None, "height": None, "mode": None, "bits": None}
    measured = _measured(_row("a/1", **gone), _row("b/1", **gone))
    index = build_index(measured.cast(_typed(measured.schema)), 20, _same)
    assert index["cluster"].to_pylist() == [None, None]
    report = index_report(index, ())
    assert (report["usable"], report["bad_fraction"], report["width"]) == (0, 1.0, None)


def _typed(schema: pa.Schema) -> pa.Schema:
    """Nulls of a table made from Python objects have no type of their own."""
    kinds = {"width": pa.int32(), "height": pa.int32(), "bits": pa.int32()}
    return pa.schema(
        [
            field.with_type(
                kinds.get(field.name, pa.string() if pa.types.is_null(field.type) else field.type)
            )
            for field in schema
        ]
    )


def test_the_report_counts_and_lists() -> None:
    picture = {name: _row("a/1")[name] for name in ("phash", "thumbnail")}
    rows = [
        _row("train/a1", "a1", label="a", split="train", **picture),
        _row("train/a2", "a2", label="a", split="train", width=20, bits=16, mode="I;16"),
        _row("train/a3", "a2", label="a", split="train", width=20, bits=16, mode="I;16"),
        _row("test/b1", "b1", label="b", split="test", **picture),
        _row("test/b2", "b2", label="b", split="test", problem="too small: 1 x 1 px"),
        _row("test/b3", "b3", label="b", split="test", problem="truncated: x"),
    ]
    report = index_report(build_index(_measured(*rows), 20, _same), ("loose.png",))
    assert report == {
        "files": 6,
        "usable": 3,
        "bad": 2,
        "bad_fraction": 2 / 6,
        "problems": {"copy": 1, "too small": 1, "truncated": 1},
        "left_out": [
            {"path": "test/b2", "problem": "too small: 1 x 1 px"},
            {"path": "test/b3", "problem": "truncated: x"},
            {"path": "train/a3", "problem": "copy of train/a2"},
        ],
        "ignored": ["loose.png"],
        "classes": {"a": 2, "b": 1},
        "given_splits": {"train": {"a": 2}, "test": {"b": 1}},
        "modes": {"I;16": 1, "L": 2},
        "bits": {"16": 1, "8": 2},
        "width": {"min": 8, "median": 8.0, "max": 20},
        "height": {"min": 9, "median": 9.0, "max": 9},
        "near_duplicates": {
            "clusters": 1,
            "images": 2,
            "clusters_with_several_labels": 1,
            "clusters_across_given_splits": 1,
            "examples": [["test/b1", "train/a1"]],
        },
        "group_hint": None,
    }


def test_a_copy_is_not_bad() -> None:
    index = build_index(_measured(_row("a/1", "x"), _row("a/2", "x"), _row("b/1")), 20, _same)
    assert len(bad_rows(index)) == 0


def test_one_class_is_none() -> None:
    index = build_index(_measured(_row("cat/1"), _row("cat/2")), 20, _same)
    with pytest.raises(PipelineError, match="found the single class cat, expected two or more"):
        check_classes(index, REPORT)


def test_a_class_without_a_usable_image_is_named() -> None:
    bad = [_row("b/1", problem="truncated: x"), _row("b/2", problem="empty: 0 bytes")]
    index = build_index(_measured(_row("a/1"), _row("a/2", problem="x"), *bad), 20, _same)
    message = (
        r"^no usable image in the classes b \(b/1: truncated: x\); all problems are listed in"
        r" reports/data\.json; repair the files"
    )
    with pytest.raises(PipelineError, match=message):
        check_classes(index, REPORT)
