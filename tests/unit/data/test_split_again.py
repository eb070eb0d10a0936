"""Images that were placed before stay where they are."""

from typing import Any

import pytest

from pipeline.data.split import Placement, split_table
from tests.unit.data.splitting import (
    SHARES,
    expected_split,
    given_rows,
    index_of,
    row_of,
    rows_of,
    sha,
    splits_of,
)


def _again(
    rows: list[dict[str, Any]], before: dict[str, str], seed: int = 0
) -> tuple[dict[str, str], Placement]:
    """Split rows of which some were placed before, by path; return the splits by path, and all."""
    by_path = {row["path"]: row["sha256"] for row in rows}
    placed = [(by_path[path], split) for path, split in before.items() if path in by_path]
    found = split_table(index_of(rows), seed, SHARES, "stop", placed)
    table = found.table
    return dict(zip(*(table[name].to_pylist() for name in ("path", "split")), strict=True)), found


def _in(split: str, path: str = "a/x") -> str:
    """Return a content hash whose draw lies in a split."""
    names = (sha(f"{path} {number}") for number in range(1000))
    return next(name for name in names if expected_split(0, f"sha256:{name}") == split)


def _unit_of(splits: list[str]) -> list[dict[str, Any]]:
    """Make images, each of which alone would be drawn into one of the splits."""
    return [row_of(f"a/{n}", sha256=_in(split, str(n))) for n, split in enumerate(splits)]


def test_a_near_duplicate_with_a_smaller_hash_follows() -> None:
    many = rows_of({"a": 30, "b": 30})
    for old, new in (("test", "train"), ("train", "test"), ("val", "train")):
        first, late = _unit_of([old, new])
        before = splits_of([*many, first])
        # The cluster has the name of the new one, which draws another split.
        joined = [row | {"cluster": late["sha256"]} for row in (first, late)]
        assert splits_of([*many, *joined])["a/0"] == new
        after, found = _again([*many, *joined], before)
        assert after == before | {"a/1": old}
        assert found.exceptions == dict.fromkeys((first["sha256"], late["sha256"]), old)
        assert found.moved == []


@pytest.mark.parametrize(
    ("splits", "wins"),
    [(["train", "test"], "train"), (["train", "val"], "train"), (["val", "test"], "val")],
)
def test_images_that_a_new_one_links_train_if_one_of_them_did(splits: list[str], wins: str) -> None:
    many, linked = rows_of({"a": 30, "b": 30}), _unit_of(splits)
    before = splits_of([*many, *linked])
    assert [before[row["path"]] for row in linked] == splits
    for key in ("group", "cluster"):
        one = [row | {key: "0"} for row in [*linked, row_of("a/new")]]
        after, found = _again([*many, *one], before)
        assert {after[row["path"]] for row in one} == {wins}
        assert found.moved == [row["path"] for row in linked if before[row["path"]] != wins]
        assert {path: after[path] for path in splits_of(many)} == splits_of(many)


def test_new_images_of_a_group_follow_also_where_another_name_would_decide() -> None:
    rows = [*rows_of({"a": 30, "b": 30}), *(row_of(f"a/g{n}", group="zebra") for n in range(3))]
    before = splits_of(rows)
    names = [f"ant {n}" for n in range(99)]
    other = next(n for n in names if expected_split(0, f"group:{n}") != before["a/g0"])
    # The group "ant" comes first by its name, and shares a picture with the group "zebra".
    new = [row_of("b/n0", group=other, cluster=rows[-1]["cluster"]), row_of("b/n1", group=other)]
    after, found = _again([*rows, *new], before)
    assert after == before | dict.fromkeys(("b/n0", "b/n1"), before["a/g0"])
    assert len(found.exceptions) == 5


def test_exceptions_alone_say_where_all_images_are() -> None:
    for seed in range(20):
        rows = rows_of({"a": 4, "b": 60, "c": 5})
        for number in range(12):
            rows.append(row_of(f"b/x{number}", group=f"g{number // 3}"))
        before = splits_of(rows, seed)
        grown = [*rows, *rows_of({"a": 3, "c": 9}, prefix="n")]
        grown += [row_of(f"b/y{n}", group=f"g{n}", cluster=rows[n]["cluster"]) for n in range(4)]
        grown += [
            row_of(f"b/z{n}", group=f"early {n}", cluster=rows[9 + n]["cluster"]) for n in (0, 1)
        ]
        after, found = _again(grown, before, seed)
        alone = split_table(index_of(grown), seed, SHARES, "stop", [*found.exceptions.items()])
        assert alone.table.equals(found.table)
        assert alone.exceptions == found.exceptions
        assert alone.moved == []
        stay = set(before) - set(found.moved)
        assert {path: after[path] for path in stay} == {path: before[path] for path in stay}


def test_what_was_moved_for_a_small_class_stays_when_the_class_grows() -> None:
    moved = 0
    for seed in range(10):
        small = rows_of({"a": 3, "b": 40})
        before = splits_of(small, seed)
        grown = small + rows_of({"a": 60}, prefix="n")
        after, found = _again(grown, before, seed)
        assert {path: after[path] for path in before} == before
        moved += len(found.exceptions)
        gone, found = _again(grown[3:], after, seed)  # exceptions of what is gone are dropped
        assert found.exceptions == {}
        assert gone == {path: split for path, split in after.items() if path in gone}
    assert moved


def test_a_new_class_moves_placed_images_only_where_no_new_one_can_be() -> None:
    # Class c comes with three units; two of them are placed, and both in train.
    many = rows_of({"a": 40, "b": 40})
    placed = [row_of(f"a/p{n}", sha256=_in("train", f"p{n}"), group=f"p{n}") for n in range(2)]
    before = {row["path"]: "train" for row in placed} | splits_of(many)
    late = [row_of(f"c/{n}", group=f"p{n}") for n in range(2)]
    after, found = _again([*many, *placed, *late, row_of("c/2"), row_of("c/3")], before)
    assert sorted(after[f"c/{n}"] for n in (2, 3)) == ["test", "val"]
    assert {path: after[path] for path in before} == before
    # With one new unit less, one of the placed ones has to go.
    after, found = _again([*many, *placed, *late, row_of("c/2")], before)
    assert sorted(after[f"c/{n}"] for n in range(3)) == ["test", "train", "val"]
    assert len(found.moved) == 1
    assert found.moved[0] in ("a/p0", "a/p1")


def test_a_split_that_is_given_now_holds_no_placed_images() -> None:
    names = [f"{label}{n:02d}" for label in "ab" for n in range(40)]
    before = splits_of(given_rows(train=names))
    assert "test" in before.values()
    rows = given_rows(train=names, test=["a99", "b99"])
    after, _ = _again(rows, before)
    assert {path for path, split in after.items() if split == "test"} == {"test/a99", "test/b99"}
    for path, split in before.items():
        if split != "test":
            assert after[path] == split
