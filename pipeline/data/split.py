"""Which images train, which choose, which judge.

Each picture's split depends on its own key and the seed alone, never on the other images. So the
shares of each class hold in expectation, not exactly: a split that is exact for every class has to
move images when others are added, and a test image that was once trained on judges nothing.

What keeps together is a unit: all images of one group, and all near duplicates of each other.
Its key is the name of its group (the smallest of several) or else the smallest content hash in
it. Adding images to a group, or images unlike all others, moves none. A new near duplicate joins
the split of the picture it resembles, except when its hash is the smaller (1 in 2 for a single
picture), or it brings a group along, and that draws another split: then both move there. No rule
that looks at content alone can do better, since it cannot know which of the two came first.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.data.tables import SPLIT
from pipeline.errors import PipelineError, some

SPLITS = ("train", "val", "test")

Texts = npt.NDArray[Any]


@dataclass(frozen=True)
class Shares:
    """The expected share of each class in a split; train has the rest."""

    val: float
    test: float


@dataclass
class _Unit:
    """Images that stay together.

    Attributes:
        key: what its draw depends on.
        draw: in [0, 1).
        rows: of the table.
        labels: the classes of its rows.
        split: where it goes.
    """

    key: str
    draw: float
    rows: list[int]
    labels: frozenset[str]
    split: str = "train"


def split_table(
    index: pa.Table,
    seed: int,
    shares: Shares,
    across_given_splits: Literal["stop", "allow", "drop"],
) -> pa.Table:
    """Assign each usable row of the index to train, val or test.

    Given splits are kept. What is not given is drawn: a missing val or test from the images of
    train and from those without a split.

    Args:
        index: from `build_index`.
        seed: of the draws.
        shares: of the splits that are drawn.
        across_given_splits: what to do about units that lie in more than one given split.

    Returns:
        `SPLIT`, sorted by path.

    Raises:
        PipelineError: such units and 'stop'; a class with too few units to be in every split.
    """
    usable = index.filter(pc.is_null(index["problem"]))
    units = _units(usable, seed)
    given = {split for split in usable["split"].to_pylist() if split in SPLITS[1:]}
    # Where val or test is given, it is complete: what has no split trains.
    column = pc.fill_null(usable["split"], "train") if given else usable["split"]
    splits = np.array(column.to_pylist(), object)
    leaks = _leaks(units, splits)
    if leaks and across_given_splits == "stop":
        raise PipelineError(_leak_message(usable, leaks, splits))
    if across_given_splits == "drop":
        splits = _drop(leaks, splits)
    open_splits = [split for split in SPLITS[1:] if split not in given]
    if open_splits:
        pool = _restrict(units, ~np.isin(splits, ["val", "test", "dropped"]), usable)
        _draw(pool, open_splits, shares)
        for unit in pool:
            splits[unit.rows] = unit.split
    _check_train(usable, splits)
    return _table(usable, splits)


def _units(usable: pa.Table, seed: int) -> list[_Unit]:
    """Unite the rows that share a group or a cluster of near duplicates."""
    groups, clusters = usable["group"].to_pylist(), usable["cluster"].to_pylist()
    names = [
        f"sha256:{cluster}" if group is None else f"group:{group}"
        for group, cluster in zip(groups, clusters, strict=True)
    ]
    _, name_numbers = np.unique(names, return_inverse=True)
    _, cluster_numbers = np.unique(clusters, return_inverse=True)
    # A graph with names on one side and clusters on the other; each row is an edge.
    offset = int(name_numbers.max(initial=-1)) + 1
    size = offset + int(cluster_numbers.max(initial=-1)) + 1
    edges = (name_numbers, cluster_numbers + offset)
    graph = coo_array((np.ones(len(names), bool), edges), shape=(size, size))
    numbers = connected_components(graph, directed=False)[1][name_numbers]
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(numbers.tolist()):
        rows.setdefault(number, []).append(row)
    labels = usable["label"].to_pylist()
    units = []
    for members in rows.values():
        key = min(names[row] for row in members)  # 'group:' sorts before 'sha256:'
        units.append(
            _Unit(key, _uniform(seed, key), members, frozenset(labels[r] for r in members))
        )
    return units


def _uniform(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the key alone."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _leaks(units: list[_Unit], splits: Texts) -> list[_Unit]:
    """Return the units that lie in more than one given split."""
    return [unit for unit in units if len({s for s in splits[unit.rows] if s is not None}) > 1]


def _leak_message(usable: pa.Table, leaks: list[_Unit], splits: Texts) -> str:
    paths = usable["path"].to_pylist()
    pairs = []
    for unit in leaks:
        first = unit.rows[0]
        other = next(row for row in unit.rows if splits[row] != splits[first])
        pairs.append(f"{paths[first]} and {paths[other]}")
    return (
        f"{len(leaks)} {'picture or group lies' if len(leaks) == 1 else 'pictures or groups lie'}"
        f" in more than one given split, as copies, near duplicates or by group: {some(pairs, 3)};"
        " set split.across_given_splits to drop (keeps the test image, else the val image) or"
        " to allow"
    )


def _drop(leaks: list[_Unit], splits: Texts) -> Texts:
    """Take the rows out of train and val that resemble test, and out of train those of val."""
    kept = splits.copy()
    for unit in leaks:
        judge = "test" if "test" in splits[unit.rows] else "val"
        for row in unit.rows:
            if splits[row] != judge:
                kept[row] = "dropped"
    return kept


def _restrict(units: list[_Unit], wanted: npt.NDArray[np.bool_], usable: pa.Table) -> list[_Unit]:
    """Return the units with only their wanted rows, without those that have none."""
    labels = usable["label"].to_pylist()
    restricted = []
    for unit in units:
        rows = [row for row in unit.rows if wanted[row]]
        if rows:
            classes = frozenset(labels[row] for row in rows)
            restricted.append(_Unit(unit.key, unit.draw, rows, classes))
    return restricted


def _draw(units: list[_Unit], open_splits: list[str], shares: Shares) -> None:
    """Set each unit's split; every class gets into each open split and into train."""
    test = shares.test if "test" in open_splits else 0.0
    val = shares.val if "val" in open_splits else 0.0
    intervals = {"test": (0.0, test), "val": (test, test + val), "train": (test + val, 1.0)}
    intervals = {split: intervals[split] for split in (*open_splits, "train")}
    for unit in units:
        unit.split = next(s for s, (low, high) in intervals.items() if low <= unit.draw < high)
    of_class: dict[str, list[_Unit]] = {}
    for unit in units:
        for label in unit.labels:
            of_class.setdefault(label, []).append(unit)
    _check_class_sizes(of_class, list(intervals))
    counts = Counter((label, unit.split) for unit in units for label in unit.labels)
    for label in sorted(of_class):
        for split, interval in intervals.items():
            if not counts[label, split]:
                _move_nearest(of_class[label], label, split, interval, counts)


def _check_class_sizes(of_class: dict[str, list[_Unit]], splits: list[str]) -> None:
    small = {label: units for label, units in of_class.items() if len(units) < len(splits)}
    if small:
        found = some(
            f"{label} has {len(units)} ({sum(len(unit.rows) for unit in units)} images)"
            for label, units in sorted(small.items())
        )
        raise PipelineError(
            f"each class needs {len(splits)} different pictures or groups to be in"
            f" {', '.join(sorted(splits, key=SPLITS.index))}, but {found}; collect more images of"
            " it, merge it with another class or remove it"
        )


def _move_nearest(
    units: list[_Unit],
    label: str,
    split: str,
    interval: tuple[float, float],
    counts: Counter[tuple[str, str]],
) -> None:
    """Move the unit whose draw is nearest to an empty split there.

    This is the one exception to stability: once the class has grown enough that a draw falls
    into the split by itself, the moved unit goes back.
    """
    low, high = interval
    # Whatever moves must not empty the split it leaves, for any of its classes.
    movable = [u for u in units if all(counts[other, u.split] > 1 for other in u.labels)]
    if not movable:
        raise PipelineError(
            f"class {label} cannot get into {split}: its groups hold too many classes at once;"
            " split the groups up, collect more images of it, or remove it"
        )
    unit = min(movable, key=lambda u: (max(low - u.draw, u.draw - high), u.key))
    for other in unit.labels:
        counts[other, unit.split] -= 1
        counts[other, split] += 1
    unit.split = split


def _check_train(usable: pa.Table, splits: Texts) -> None:
    labels = np.array(usable["label"].to_pylist(), object)
    trained = set(labels[splits == "train"])
    judged = set(labels[np.isin(splits, ["val", "test"])])
    missing = sorted(judged - trained)
    if missing:
        raise PipelineError(
            f"classes {some(missing)} are in val or test but not in train, so no network can"
            " learn them; add training images or remove the classes"
        )


def _table(usable: pa.Table, splits: Texts) -> pa.Table:
    position = usable.column_names.index("split")
    table = usable.set_column(position, "split", pa.array(splits, pa.string()))
    table = table.filter(pa.array(splits != "dropped", pa.bool_()))
    return pa.Table.from_arrays([table[name] for name in SPLIT.names], schema=SPLIT)
