"""Draws by content, group and seed, when no split is given and nothing was placed before."""

from collections import Counter

import numpy as np
import pytest

from pipeline.data.split import split_table
from pipeline.data.tables import INDEX, SPLIT
from pipeline.errors import PipelineError
from tests.unit.data.splitting import (
    SHARES,
    draw,
    expected_split,
    index_of,
    row_of,
    rows_of,
    sha,
    splits_of,
)


def test_each_image_follows_from_its_content_and_the_seed() -> None:
    rows = rows_of({"a": 60, "b": 40})
    for seed in (0, 1):
        assert splits_of(rows, seed) == {
            row["path"]: expected_split(seed, f"sha256:{row['sha256']}") for row in rows
        }


def test_the_table_has_the_columns_of_the_index_but_the_problem() -> None:
    rows = [*rows_of({"a": 9, "b": 9}), row_of("a/x", problem="truncated: x", cluster=None)]
    table = split_table(index_of(rows), 0, SHARES, "stop").table
    assert table.schema.equals(SPLIT)
    assert table.column_names == [name for name in INDEX.names if name != "problem"]
    assert table["path"].to_pylist() == sorted(row["path"] for row in rows[:-1])


def test_shares_hold_in_every_class() -> None:
    counts = Counter(
        (path.split("/")[0], split)
        for path, split in splits_of(rows_of({"a": 4000, "b": 2000})).items()
    )
    for label, total in (("a", 4000), ("b", 2000)):
        for split, share in (("test", 0.25), ("val", 0.15), ("train", 0.6)):
            deviation = (share * (1 - share) / total) ** 0.5
            assert abs(counts[label, split] / total - share) < 4 * deviation


def test_adding_images_moves_none() -> None:
    few = rows_of({"a": 50, "b": 50})
    before = splits_of(few)
    after = splits_of(few + rows_of({"a": 300, "b": 10, "c": 40}, prefix="new"))
    assert {path: after[path] for path in before} == before


def test_adding_images_to_a_group_moves_none() -> None:
    few = [*rows_of({"a": 30, "b": 30}), row_of("a/g1", group="g"), row_of("b/g2", group="g")]
    before = splits_of(few)
    after = splits_of([*few, row_of("a/g0", group="g"), row_of("a/g3", group="g")])
    assert {path: after[path] for path in before} == before


def test_groups_and_near_duplicates_stay_together() -> None:
    rows = rows_of({"a": 30, "b": 30})
    for number in range(40):
        group, cluster = f"patient {number // 2}", sha(f"cluster {number // 3}")
        rows.append(row_of(f"a/grouped{number:02d}", group=group))
        rows.append(row_of(f"b/alike{number:02d}", cluster=cluster))
    # Group 'one' and group 'two' are tied by a picture that both hold.
    rows += [row_of("a/one", group="one"), row_of("b/two", group="two")]
    rows += [row_of("a/tie1", group="one", cluster="c"), row_of("b/tie2", group="two", cluster="c")]
    rows += [row_of("a/tie3", cluster="c")]
    for seed in range(5):
        found = splits_of(rows, seed)
        for number in range(40):
            key = f"group:patient {number // 2}"
            assert found[f"a/grouped{number:02d}"] == expected_split(seed, key)
            key = f"sha256:{sha(f'cluster {number // 3}')}"
            assert found[f"b/alike{number:02d}"] == expected_split(seed, key)
        tied = {found[path] for path in ("a/one", "b/two", "a/tie1", "b/tie2", "a/tie3")}
        assert tied == {expected_split(seed, "group:one")}


def test_a_group_is_not_mistaken_for_a_hash() -> None:
    rows = [*rows_of({"a": 20, "b": 20}), row_of("a/x", sha256="f"), row_of("b/y", group="f")]
    found = splits_of(rows, seed=1)
    assert (found["a/x"], found["b/y"]) == (
        expected_split(1, "sha256:f"),
        expected_split(1, "group:f"),
    )


def test_an_empty_split_gets_the_nearest_draw_that_another_can_spare() -> None:
    intervals = {"test": (0.0, 0.25), "val": (0.25, 0.4), "train": (0.4, 1.0)}
    seen = set()
    for seed in range(60):
        rows = rows_of({"a": 3, "b": 60})
        found = splits_of(rows, seed)
        others = {row["path"]: expected_split(seed, f"sha256:{row['sha256']}") for row in rows[3:]}
        assert {path: found[path] for path in others} == others
        mine = {row["path"]: draw(seed, f"sha256:{row['sha256']}") for row in rows[:3]}
        assert sorted(found[path] for path in mine) == ["test", "train", "val"]
        drawn = {row["path"]: expected_split(seed, f"sha256:{row['sha256']}") for row in rows[:3]}
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
        rows = rows_of({"a": 6, "b": 60})
        found = splits_of(rows, seed)
        drawn = {row["path"]: expected_split(seed, f"sha256:{row['sha256']}") for row in rows}
        moved = [path for path in drawn if found[path] != drawn[path]]
        assert len(moved) == 3 - len({drawn[path] for path in drawn if path.startswith("a/")})
        assert {found[path] for path in drawn if path.startswith("a/")} == {"train", "val", "test"}


def test_a_class_too_small_to_split_is_named_with_its_count() -> None:
    message = (
        "each class needs 3 different pictures or groups to be in train, val, test, but cat has 2"
        r" \(2 images\), fox has 1 \(4 images\); collect more images of it, merge it with another"
        " class or remove it"
    )
    rows = rows_of({"ape": 10, "cat": 2}) + rows_of({"fox": 4}, group="all of one")
    with pytest.raises(PipelineError, match=message):
        splits_of(rows)


def test_groups_that_hold_every_class_at_once_may_not_fit() -> None:
    # Class a has three units; the two that c shares with it are needed elsewhere.
    rows = [row_of(f"{label}/{n}", group=f"g{n}") for label in "ab" for n in range(3)]
    assert sorted(Counter(splits_of(rows).values()).values()) == [2, 2, 2]
    failures = 0
    for seed in range(40):
        mixed = [row_of(f"a/{n}", group=f"g{n}") for n in range(3)]
        mixed += [row_of(f"b/{n}", group=f"g{n + 1}") for n in range(3)]
        mixed += [row_of(f"c/{n}", group=f"g{(2 * n + 1) % 4}x") for n in range(3)]
        mixed += [row_of("c/y", group="g0"), row_of("c/z", group="g3")]
        try:
            found = splits_of(mixed, seed)
        except PipelineError as error:
            assert "its groups hold too many classes at once" in str(error)  # noqa: PT017
            failures += 1
        else:
            for label in "abc":
                assert {found[p] for p in found if p.startswith(label)} == {"train", "val", "test"}
    assert failures


def test_the_result_does_not_depend_on_the_order_of_paths() -> None:
    rows = rows_of({"a": 3, "b": 5})
    renamed = [row | {"path": f"{row['label']}/{999 - n}"} for n, row in enumerate(rows)]
    by_content = {row["path"]: row["sha256"] for row in rows + renamed}
    first = {by_content[path]: split for path, split in splits_of(rows).items()}
    assert {by_content[path]: split for path, split in splits_of(renamed).items()} == first
    assert len(first) == len(np.unique(list(first)))
