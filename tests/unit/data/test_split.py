import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.split import Placement, Shares, split_table
from pipeline.data.tables import INDEX, SPLIT
from pipeline.errors import PipelineError

SHARES = Shares(val=0.15, test=0.25)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _row(path: str, **given: Any) -> dict[str, Any]:
    sha256 = given.pop("sha256", _sha(path))
    row = dict.fromkeys(INDEX.names) | {"path": path, "label": path.split("/", maxsplit=1)[0]}
    return row | {"sha256": sha256, "cluster": sha256, "bytes": 1} | given


def _rows(counts: dict[str, int], prefix: str = "", **given: Any) -> list[dict[str, Any]]:
    return [
        _row(f"{label}/{prefix}{number:04d}", **given)
        for label, count in counts.items()
        for number in range(count)
    ]


def _index(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["path"]), schema=INDEX)


def _splits(rows: list[dict[str, Any]], seed: int = 0, across: Any = "stop") -> dict[str, str]:
    table = split_table(_index(rows), seed, SHARES, across).table
    return dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True))


def _draw(seed: int, key: str) -> float:
    """The draw of a unit, as documented: the first 53 bits of a hash as a fraction."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).hexdigest()
    return (int(digest[:16], 16) >> 11) / 2**53


def _expected(seed: int, key: str) -> str:
    draw = _draw(seed, key)
    return "test" if draw < 0.25 else "val" if draw < 0.25 + 0.15 else "train"


def test_each_image_follows_from_its_content_and_the_seed() -> None:
    rows = _rows({"a": 60, "b": 40})
    for seed in (0, 1):
        assert _splits(rows, seed) == {
            row["path"]: _expected(seed, f"sha256:{row['sha256']}") for row in rows
        }


def test_the_table_has_the_columns_of_the_index_but_the_problem() -> None:
    rows = [*_rows({"a": 9, "b": 9}), _row("a/x", problem="truncated: x", cluster=None)]
    table = split_table(_index(rows), 0, SHARES, "stop").table
    assert table.schema.equals(SPLIT)
    assert table.column_names == [name for name in INDEX.names if name != "problem"]
    assert table["path"].to_pylist() == sorted(row["path"] for row in rows[:-1])


def test_shares_hold_in_every_class() -> None:
    counts = Counter(
        (path.split("/")[0], split)
        for path, split in _splits(_rows({"a": 4000, "b": 2000})).items()
    )
    for label, total in (("a", 4000), ("b", 2000)):
        for split, share in (("test", 0.25), ("val", 0.15), ("train", 0.6)):
            deviation = (share * (1 - share) / total) ** 0.5
            assert abs(counts[label, split] / total - share) < 4 * deviation


def test_adding_images_moves_none() -> None:
    few = _rows({"a": 50, "b": 50})
    before = _splits(few)
    after = _splits(few + _rows({"a": 300, "b": 10, "c": 40}, prefix="new"))
    assert {path: after[path] for path in before} == before


def test_adding_images_to_a_group_moves_none() -> None:
    few = [*_rows({"a": 30, "b": 30}), _row("a/g1", group="g"), _row("b/g2", group="g")]
    before = _splits(few)
    after = _splits([*few, _row("a/g0", group="g"), _row("a/g3", group="g")])
    assert {path: after[path] for path in before} == before


def test_groups_and_near_duplicates_stay_together() -> None:
    rows = _rows({"a": 30, "b": 30})
    for number in range(40):
        group, cluster = f"patient {number // 2}", _sha(f"cluster {number // 3}")
        rows.append(_row(f"a/grouped{number:02d}", group=group))
        rows.append(_row(f"b/alike{number:02d}", cluster=cluster))
    # Group 'one' and group 'two' are tied by a picture that both hold.
    rows += [_row("a/one", group="one"), _row("b/two", group="two")]
    rows += [_row("a/tie1", group="one", cluster="c"), _row("b/tie2", group="two", cluster="c")]
    rows += [_row("a/tie3", cluster="c")]
    for seed in range(5):
        found = _splits(rows, seed)
        for number in range(40):
            key = f"group:patient {number // 2}"
            assert found[f"a/grouped{number:02d}"] == _expected(seed, key)
            key = f"sha256:{_sha(f'cluster {number // 3}')}"
            assert found[f"b/alike{number:02d}"] == _expected(seed, key)
        tied = {found[path] for path in ("a/one", "b/two", "a/tie1", "b/tie2", "a/tie3")}
        assert tied == {_expected(seed, "group:one")}


def test_a_group_is_not_mistaken_for_a_hash() -> None:
    rows = [*_rows({"a": 20, "b": 20}), _row("a/x", sha256="f"), _row("b/y", group="f")]
    found = _splits(rows, seed=1)
    assert (found["a/x"], found["b/y"]) == (_expected(1, "sha256:f"), _expected(1, "group:f"))


def test_an_empty_split_gets_the_nearest_draw_that_another_can_spare() -> None:
    intervals = {"test": (0.0, 0.25), "val": (0.25, 0.4), "train": (0.4, 1.0)}
    seen = set()
    for seed in range(60):
        rows = _rows({"a": 3, "b": 60})
        found = _splits(rows, seed)
        others = {row["path"]: _expected(seed, f"sha256:{row['sha256']}") for row in rows[3:]}
        assert {path: found[path] for path in others} == others
        mine = {row["path"]: _draw(seed, f"sha256:{row['sha256']}") for row in rows[:3]}
        assert sorted(found[path] for path in mine) == ["test", "train", "val"]
        drawn = {row["path"]: _expected(seed, f"sha256:{row['sha256']}") for row in rows[:3]}
        missing = set(intervals) - set(drawn.values())
        if len(missing) == 1:
            (split,) = missing
            ((doubled, _),) = Counter(drawn.values()).most_common(1)
            low, high = intervals[split]
            distance = {p: max(low - u, u - high) for p, u in mine.items() if drawn[p] == doubled}
            assert found[min(distance, key=distance.__getitem__)] == split
            seen.add(split)
    assert seen == set(intervals)


def test_at_most_one_unit_moves_for_each_empty_split() -> None:
    for seed in range(30):
        rows = _rows({"a": 6, "b": 60})
        found = _splits(rows, seed)
        drawn = {row["path"]: _expected(seed, f"sha256:{row['sha256']}") for row in rows}
        moved = [path for path in drawn if found[path] != drawn[path]]
        assert len(moved) == 3 - len({drawn[path] for path in drawn if path.startswith("a/")})
        assert {found[path] for path in drawn if path.startswith("a/")} == {"train", "val", "test"}


def test_a_class_too_small_to_split_is_named_with_its_count() -> None:
    message = (
        "each class needs 3 different pictures or groups to be in train, val, test, but cat has 2"
        r" \(2 images\), fox has 1 \(4 images\); collect more images of it, merge it with another"
        " class or remove it"
    )
    rows = _rows({"ape": 10, "cat": 2}) + _rows({"fox": 4}, group="all of one")
    with pytest.raises(PipelineError, match=message):
        _splits(rows)


def test_groups_that_hold_every_class_at_once_may_not_fit() -> None:
    # Class a has three units; the two that c shares with it are needed elsewhere.
    rows = [_row(f"{label}/{n}", group=f"g{n}") for label in "ab" for n in range(3)]
    assert sorted(Counter(_splits(rows).values()).values()) == [2, 2, 2]
    failures = 0
    for seed in range(40):
        mixed = [_row(f"a/{n}", group=f"g{n}") for n in range(3)]
        mixed += [_row(f"b/{n}", group=f"g{n + 1}") for n in range(3)]
        mixed += [_row(f"c/{n}", group=f"g{(2 * n + 1) % 4}x") for n in range(3)]
        mixed += [_row("c/y", group="g0"), _row("c/z", group="g3")]
        try:
            found = _splits(mixed, seed)
        except PipelineError as error:
            assert "its groups hold too many classes at once" in str(error)  # noqa: PT017
            failures += 1
        else:
            for label in "abc":
                assert {found[p] for p in found if p.startswith(label)} == {"train", "val", "test"}
    assert failures


def _given(**splits: list[str]) -> list[dict[str, Any]]:
    return [
        _row(f"{split}/{name}", label=name[0], split=split, sha256=_sha(f"{split}/{name}"))
        for split, names in splits.items()
        for name in names
    ]


def test_given_splits_are_kept() -> None:
    rows = _given(train=["a1", "b1"], val=["a2", "b2"], test=["a3", "b3"])
    assert _splits(rows) == {row["path"]: row["split"] for row in rows}


def test_a_missing_val_is_drawn_from_train() -> None:
    names = [f"{label}{n:02d}" for label in "ab" for n in range(40)]
    rows = _given(train=names, test=["a1", "b1"])
    found = _splits(rows)
    assert {found[path] for path in ("test/a1", "test/b1")} == {"test"}
    for row in rows[:-2]:
        expected = "val" if _draw(0, f"sha256:{row['sha256']}") < 0.15 else "train"
        assert found[row["path"]] == expected


def test_a_missing_test_is_drawn_from_train() -> None:
    rows = _given(train=[f"{label}{n:02d}" for label in "ab" for n in range(40)], val=["a1", "b1"])
    found = _splits(rows)
    assert Counter(found.values())["val"] == 2
    for row in rows[:-2]:
        expected = "test" if _draw(0, f"sha256:{row['sha256']}") < 0.25 else "train"
        assert found[row["path"]] == expected


def test_only_train_given_is_as_good_as_nothing_given() -> None:
    rows = _given(train=[f"{label}{n:02d}" for label in "ab" for n in range(40)])
    free = [row | {"split": None} for row in rows]
    assert _splits(rows) == _splits(free)


def test_without_a_split_beside_given_ones_is_train() -> None:
    rows = [*_given(train=["a1"], val=["a2", "b2"], test=["a3", "b3"]), _row("b/free")]
    assert _splits(rows)["b/free"] == "train"


LEAKING = [
    *_given(train=["a1", "a4", "b1", "b4"], val=["a2", "b2"], test=["a3", "b3"]),
    _row("train/copy", label="a", split="train", cluster=_sha("test/a3")),
    _row("val/copy", label="a", split="val", cluster=_sha("test/a3")),
    _row("train/late", label="b", split="train", cluster=_sha("val/b2")),
]


def test_copies_across_given_splits_stop() -> None:
    message = (
        "2 pictures or groups lie in more than one given split, as copies, near duplicates or by"
        " group: test/a3 and train/copy, train/late and val/b2; set split.across_given_splits to"
        " drop"
    )
    with pytest.raises(PipelineError, match=message):
        _splits(LEAKING)


def test_a_group_across_given_splits_stops() -> None:
    rows = _given(train=["a1", "b1"], val=["a2", "b2"], test=["a3", "b3"])
    rows[0]["group"] = rows[-2]["group"] = "patient"
    with pytest.raises(PipelineError, match="1 picture or group lies in more than one given split"):
        _splits(rows)


def test_copies_across_given_splits_allowed() -> None:
    assert _splits(LEAKING, across="allow") == {row["path"]: row["split"] for row in LEAKING}


def test_copies_across_given_splits_dropped() -> None:
    kept = {row["path"]: row["split"] for row in LEAKING[:-3]}
    assert _splits(LEAKING, across="drop") == kept


def test_a_class_without_training_images_is_named() -> None:
    rows = _given(train=["a1"], val=["a2"], test=["a3", "b3"])
    with pytest.raises(PipelineError, match="classes b are in val or test but not in train"):
        _splits(rows)


def test_the_result_does_not_depend_on_the_order_of_paths() -> None:
    rows = _rows({"a": 3, "b": 5})
    renamed = [row | {"path": f"{row['label']}/{999 - n}"} for n, row in enumerate(rows)]
    by_content = {row["path"]: row["sha256"] for row in rows + renamed}
    first = {by_content[path]: split for path, split in _splits(rows).items()}
    assert {by_content[path]: split for path, split in _splits(renamed).items()} == first
    assert len(first) == len(np.unique(list(first)))


def _again(
    rows: list[dict[str, Any]], before: dict[str, str], seed: int = 0
) -> tuple[dict[str, str], Placement]:
    """Split rows of which some were placed before, by path; return the splits by path, and all."""
    by_path = {row["path"]: row["sha256"] for row in rows}
    placed = [(by_path[path], split) for path, split in before.items() if path in by_path]
    found = split_table(_index(rows), seed, SHARES, "stop", placed)
    table = found.table
    return dict(zip(*(table[name].to_pylist() for name in ("path", "split")), strict=True)), found


def _in(split: str, path: str = "a/x") -> str:
    """Return a content hash whose draw lies in a split."""
    names = (_sha(f"{path} {number}") for number in range(1000))
    return next(name for name in names if _expected(0, f"sha256:{name}") == split)


def _unit_of(splits: list[str]) -> list[dict[str, Any]]:
    """Make images, each of which alone would be drawn into one of the splits."""
    return [_row(f"a/{n}", sha256=_in(split, str(n))) for n, split in enumerate(splits)]


def test_a_near_duplicate_with_a_smaller_hash_follows() -> None:
    many = _rows({"a": 30, "b": 30})
    for old, new in (("test", "train"), ("train", "test"), ("val", "train")):
        first, late = _unit_of([old, new])
        before = _splits([*many, first])
        # The cluster has the name of the new one, which draws another split.
        joined = [row | {"cluster": late["sha256"]} for row in (first, late)]
        assert _splits([*many, *joined])["a/0"] == new
        after, found = _again([*many, *joined], before)
        assert after == before | {"a/1": old}
        assert found.exceptions == dict.fromkeys((first["sha256"], late["sha256"]), old)
        assert found.moved == []


@pytest.mark.parametrize(
    ("splits", "wins"),
    [(["train", "test"], "train"), (["train", "val"], "train"), (["val", "test"], "val")],
)
def test_images_that_a_new_one_links_train_if_one_of_them_did(splits: list[str], wins: str) -> None:
    many, linked = _rows({"a": 30, "b": 30}), _unit_of(splits)
    before = _splits([*many, *linked])
    assert [before[row["path"]] for row in linked] == splits
    for key in ("group", "cluster"):
        one = [row | {key: "0"} for row in [*linked, _row("a/new")]]
        after, found = _again([*many, *one], before)
        assert {after[row["path"]] for row in one} == {wins}
        assert found.moved == [row["path"] for row in linked if before[row["path"]] != wins]
        assert {path: after[path] for path in _splits(many)} == _splits(many)


def test_new_images_of_a_group_follow_also_where_another_name_would_decide() -> None:
    rows = [*_rows({"a": 30, "b": 30}), *(_row(f"a/g{n}", group="zebra") for n in range(3))]
    before = _splits(rows)
    names = [f"ant {n}" for n in range(99)]
    other = next(n for n in names if _expected(0, f"group:{n}") != before["a/g0"])
    # The group "ant" comes first by its name, and shares a picture with the group "zebra".
    new = [_row("b/n0", group=other, cluster=rows[-1]["cluster"]), _row("b/n1", group=other)]
    after, found = _again([*rows, *new], before)
    assert after == before | dict.fromkeys(("b/n0", "b/n1"), before["a/g0"])
    assert len(found.exceptions) == 5


def test_exceptions_alone_say_where_all_images_are() -> None:
    for seed in range(20):
        rows = _rows({"a": 4, "b": 60, "c": 5})
        for number in range(12):
            rows.append(_row(f"b/x{number}", group=f"g{number // 3}"))
        before = _splits(rows, seed)
        grown = [*rows, *_rows({"a": 3, "c": 9}, prefix="n")]
        grown += [_row(f"b/y{n}", group=f"g{n}", cluster=rows[n]["cluster"]) for n in range(4)]
        grown += [
            _row(f"b/z{n}", group=f"early {n}", cluster=rows[9 + n]["cluster"]) for n in (0, 1)
        ]
        after, found = _again(grown, before, seed)
        alone = split_table(_index(grown), seed, SHARES, "stop", [*found.exceptions.items()])
        assert alone.table.equals(found.table)
        assert alone.exceptions == found.exceptions
        assert alone.moved == []
        stay = set(before) - set(found.moved)
        assert {path: after[path] for path in stay} == {path: before[path] for path in stay}


def test_what_was_moved_for_a_small_class_stays_when_the_class_grows() -> None:
    moved = 0
    for seed in range(10):
        small = _rows({"a": 3, "b": 40})
        before = _splits(small, seed)
        grown = small + _rows({"a": 60}, prefix="n")
        after, found = _again(grown, before, seed)
        assert {path: after[path] for path in before} == before
        moved += len(found.exceptions)
        gone, found = _again(grown[3:], after, seed)  # exceptions of what is gone are dropped
        assert found.exceptions == {}
        assert gone == {path: split for path, split in after.items() if path in gone}
    assert moved


def test_a_new_class_moves_placed_images_only_where_no_new_one_can_be() -> None:
    # Class c comes with three units; two of them are placed, and both in train.
    many = _rows({"a": 40, "b": 40})
    placed = [_row(f"a/p{n}", sha256=_in("train", f"p{n}"), group=f"p{n}") for n in range(2)]
    before = {row["path"]: "train" for row in placed} | _splits(many)
    late = [_row(f"c/{n}", group=f"p{n}") for n in range(2)]
    after, found = _again([*many, *placed, *late, _row("c/2"), _row("c/3")], before)
    assert sorted(after[f"c/{n}"] for n in (2, 3)) == ["test", "val"]
    assert {path: after[path] for path in before} == before
    # With one new unit less, one of the placed ones has to go.
    after, found = _again([*many, *placed, *late, _row("c/2")], before)
    assert sorted(after[f"c/{n}"] for n in range(3)) == ["test", "train", "val"]
    assert len(found.moved) == 1
    assert found.moved[0] in ("a/p0", "a/p1")


def test_a_split_that_is_given_now_holds_no_placed_images() -> None:
    names = [f"{label}{n:02d}" for label in "ab" for n in range(40)]
    before = _splits(_given(train=names))
    assert "test" in before.values()
    rows = _given(train=names, test=["a99", "b99"])
    after, _ = _again(rows, before)
    assert {path for path, split in after.items() if split == "test"} == {"test/a99", "test/b99"}
    for path, split in before.items():
        if split != "test":
            assert after[path] == split
