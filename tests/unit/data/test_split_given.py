"""Splits that the source gives, and copies across them."""

from collections import Counter

import pytest

from pipeline.errors import PipelineError
from tests.unit.data.splitting import draw, given_rows, row_of, sha, splits_of


def test_given_splits_are_kept() -> None:
    rows = given_rows(train=["a1", "b1"], val=["a2", "b2"], test=["a3", "b3"])
    assert splits_of(rows) == {row["path"]: row["split"] for row in rows}


def test_a_missing_val_is_drawn_from_train() -> None:
    names = [f"{label}{n:02d}" for label in "ab" for n in range(40)]
    rows = given_rows(train=names, test=["a1", "b1"])
    found = splits_of(rows)
    assert {found[path] for path in ("test/a1", "test/b1")} == {"test"}
    for row in rows[:-2]:
        expected = "val" if draw(0, f"sha256:{row['sha256']}") < 0.15 else "train"
        assert found[row["path"]] == expected


def test_a_missing_test_is_drawn_from_train() -> None:
    rows = given_rows(
        train=[f"{label}{n:02d}" for label in "ab" for n in range(40)], val=["a1", "b1"]
    )
    found = splits_of(rows)
    assert Counter(found.values())["val"] == 2
    for row in rows[:-2]:
        expected = "test" if draw(0, f"sha256:{row['sha256']}") < 0.25 else "train"
        assert found[row["path"]] == expected


def test_only_train_given_is_as_good_as_nothing_given() -> None:
    rows = given_rows(train=[f"{label}{n:02d}" for label in "ab" for n in range(40)])
    free = [row | {"split": None} for row in rows]
    assert splits_of(rows) == splits_of(free)


def test_without_a_split_beside_given_ones_is_train() -> None:
    rows = [*given_rows(train=["a1"], val=["a2", "b2"], test=["a3", "b3"]), row_of("b/free")]
    assert splits_of(rows)["b/free"] == "train"


LEAKING = [
    *given_rows(train=["a1", "a4", "b1", "b4"], val=["a2", "b2"], test=["a3", "b3"]),
    row_of("train/copy", label="a", split="train", cluster=sha("test/a3")),
    row_of("val/copy", label="a", split="val", cluster=sha("test/a3")),
    row_of("train/late", label="b", split="train", cluster=sha("val/b2")),
]


def test_copies_across_given_splits_stop() -> None:
    message = (
        "2 pictures or groups lie in more than one given split, as copies, near duplicates or by"
        " group: test/a3 and train/copy, train/late and val/b2; set split.across_given_splits to"
        " drop"
    )
    with pytest.raises(PipelineError, match=message):
        splits_of(LEAKING)


def test_a_group_across_given_splits_stops() -> None:
    rows = given_rows(train=["a1", "b1"], val=["a2", "b2"], test=["a3", "b3"])
    rows[0]["group"] = rows[-2]["group"] = "patient"
    with pytest.raises(PipelineError, match="1 picture or group lies in more than one given split"):
        splits_of(rows)


def test_copies_across_given_splits_allowed() -> None:
    assert splits_of(LEAKING, across="allow") == {row["path"]: row["split"] for row in LEAKING}


def test_copies_across_given_splits_dropped() -> None:
    kept = {row["path"]: row["split"] for row in LEAKING[:-3]}
    assert splits_of(LEAKING, across="drop") == kept


def test_a_class_without_training_images_is_named() -> None:
    rows = given_rows(train=["a1"], val=["a2"], test=["a3", "b3"])
    with pytest.raises(PipelineError, match="classes b are in val or test but not in train"):
        splits_of(rows)
