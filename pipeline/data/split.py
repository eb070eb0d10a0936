"""Which images train, which choose, which judge.

Where an image is new, its split depends on its own key and the seed alone, never on the other
images. So the shares of each class hold in expectation, not exactly: a split that is exact for
every class has to move images when others are added, and a test image that was once trained on
judges nothing.

What keeps together is a unit: all images of one group, and all near duplicates of each other.
Its key is the name of its group (the smallest of several) or else the smallest content hash in
it.

Where an image was placed before, it stays, and new images of its unit follow it. When new images
link placed ones of different splits, all of them train if one of them did, else they go to val: a
test image that was trained on, or chosen by, judges nothing, and the other way does no harm. A
class that lacks a split gets the unit whose draw is nearest; one that was placed before is moved
only where no new one can be.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.tables import SPLIT, with_boxes
from pipeline.errors import PipelineError, some

SPLITS = ("train", "val", "test")
# Their numbers. Of several splits of one unit the lowest wins.
_TRAIN, _VAL, _TEST = range(3)
_NONE, _DROPPED = 3, 4

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """The expected share of each class in a split; train has the rest."""

    val: float
    test: float


@dataclass(frozen=True)
class Placement:
    """Where all images go.

    Attributes:
        table: `SPLIT`, with `BOX` if the index has it; sorted by path.
        exceptions: the splits of the images that their keys and the seed alone put elsewhere, by
            content hash.
        moved: paths of the images that were in another split before.
    """

    table: pa.Table
    exceptions: dict[str, str]
    moved: list[str]


def split_table(
    index: pa.Table,
    seed: int,
    shares: Shares,
    across_given_splits: Literal["stop", "allow", "drop"],
    placed: Sequence[tuple[str, str]] = (),
) -> Placement:
    """Assign each usable row of the index to train, val or test.

    Given splits are kept. What is not given is drawn: a missing val or test from the images of
    train and from those without a split.

    Args:
        index: from `build_index`.
        seed: of the draws.
        shares: of the splits that are drawn.
        across_given_splits: what to do about units that lie in more than one given split.
        placed: content hashes and splits of images that were placed before.

    Raises:
        PipelineError: such units and 'stop'; a class with too few units to be in every split.
    """
    usable = index.filter(pc.is_null(index["problem"]))
    units, keys = _units(usable)
    splits: Numbers = (
        pc.fill_null(pc.index_in(usable["split"], value_set=pa.array(SPLITS)), _NONE)
        .to_numpy()
        .astype(np.int64)
    )
    given = {*splits.tolist()} & {_VAL, _TEST}
    if given:
        splits[splits == _NONE] = _TRAIN  # where val or test is given, it is complete
        leaks = _leaks(units, splits)
        if leaks and across_given_splits == "stop":
            raise PipelineError(_leak_message(usable, leaks, splits))
        if across_given_splits == "drop":
            _drop(leaks, splits)
    exceptions: dict[str, str] = {}
    moved: list[str] = []
    open_splits = [split for split in (_VAL, _TEST) if split not in given]
    if open_splits:
        free = np.flatnonzero((splits == _TRAIN) | (splits == _NONE))
        pool = usable.take(free)
        contents = pool["sha256"].to_pylist()
        before = _placed_before(contents, placed, open_splits)
        drawn, now = _place(
            pool, units[free], keys, before, open_splits=open_splits, seed=seed, shares=shares
        )
        splits[free] = now
        exceptions = {contents[row]: SPLITS[now[row]] for row in np.flatnonzero(now != drawn)}
        paths = pool["path"].to_pylist()
        moved = [paths[row] for row in np.flatnonzero((before != _NONE) & (now != before))]
    _check_train(usable, splits)
    return Placement(_table(usable, splits), exceptions, moved)


def _units(usable: pa.Table) -> tuple[Numbers, list[str]]:
    """Unite the rows that share a group or a cluster of near duplicates.

    Returns:
        The number of each row's unit, and the keys of the units.
    """
    clusters = usable["cluster"].combine_chunks().dictionary_encode()
    names = [f"sha256:{name}" for name in clusters.dictionary.to_pylist()]
    of_rows: Numbers = clusters.indices.to_numpy().astype(np.int64)
    if usable["group"].null_count == len(usable):
        return of_rows, names
    united = list(range(len(names)))  # a cluster leads to another one of its unit, or to itself

    def first_of(cluster: int) -> int:
        while united[cluster] != cluster:
            united[cluster] = cluster = united[united[cluster]]
        return cluster

    of_groups: dict[str, int] = {}
    for group, cluster in zip(usable["group"].to_pylist(), of_rows.tolist(), strict=True):
        if group is not None:
            united[first_of(cluster)] = first_of(of_groups.setdefault(group, cluster))
    units = np.array([first_of(cluster) for cluster in range(len(names))], np.int64)
    for group, cluster in of_groups.items():
        unit = units[cluster]
        names[unit] = min(names[unit], f"group:{group}")  # 'group:' sorts before 'sha256:'
    return units[of_rows], names


def _uniform(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the key alone."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _leaks(units: Numbers, splits: Numbers) -> list[Numbers]:
    """Return the rows of each unit that lies in more than one given split."""
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    lowest, highest = (of.reduceat(splits[order], starts) for of in (np.minimum, np.maximum))
    rows = np.split(order, starts[1:])
    leaks = [rows[unit] for unit in np.flatnonzero(lowest != highest)]
    return sorted(leaks, key=lambda rows: int(rows[0]))


def _leak_message(usable: pa.Table, leaks: list[Numbers], splits: Numbers) -> str:
    paths = usable["path"].to_pylist()
    pairs = []
    for rows in leaks:
        other = next(row for row in rows if splits[row] != splits[rows[0]])
        pairs.append(f"{paths[rows[0]]} and {paths[other]}")
    return (
        f"{len(leaks)} {'picture or group lies' if len(leaks) == 1 else 'pictures or groups lie'}"
        f" in more than one given split, as copies, near duplicates or by group: {some(pairs, 3)};"
        " set split.across_given_splits to drop (keeps the test image, else the val image) or"
        " to allow"
    )


def _drop(leaks: list[Numbers], splits: Numbers) -> None:
    """Take the rows out of train and val that resemble test, and out of train those of val."""
    for rows in leaks:
        splits[rows[splits[rows] != splits[rows].max()]] = _DROPPED


def _placed_before(
    contents: list[str], placed: Sequence[tuple[str, str]], open_splits: list[int]
) -> Numbers:
    """Return the split in which each content was before; none where it may not be now."""
    known: dict[str, int] = {}
    for content, split in placed:
        number = SPLITS.index(split)
        if number in (_TRAIN, *open_splits):
            known[content] = min(number, known.get(content, _NONE))
    return np.array([known.get(content, _NONE) for content in contents], np.int64)


def _place(
    pool: pa.Table,
    of_rows: Numbers,
    keys: list[str],
    before: Numbers,
    *,
    open_splits: list[int],
    seed: int,
    shares: Shares,
) -> tuple[Numbers, Numbers]:
    """Set the split of each row; every class gets into each open split and into train.

    Args:
        pool: the rows, n.
        of_rows: the unit of each row, n.
        keys: of all units.
        before: the split in which each row was, n.
        open_splits: val and test, or one of them.
        seed: of the draws.
        shares: of the splits that are drawn.

    Returns:
        What the draws alone say, and what holds, n each.
    """
    numbers, of_rows = np.unique(of_rows, return_inverse=True)
    test = shares.test if _TEST in open_splits else 0.0
    val = shares.val if _VAL in open_splits else 0.0
    intervals = {_TEST: (0.0, test), _VAL: (test, test + val), _TRAIN: (test + val, 1.0)}
    intervals = {split: intervals[split] for split in (*open_splits, _TRAIN)}
    draws = np.array([_uniform(seed, keys[number]) for number in numbers.tolist()])
    drawn = np.select([draws < test, draws < test + val], [_TEST, _VAL], _TRAIN)
    kept = np.full(len(numbers), _NONE)
    np.minimum.at(kept, of_rows, before)
    now = np.where(kept == _NONE, drawn, kept)
    labels = pool["label"].combine_chunks().dictionary_encode()
    names = labels.dictionary.to_pylist()
    # Each class of each unit once.
    pairs = np.unique(of_rows * len(names) + labels.indices.to_numpy())
    of_pairs, classes = np.divmod(pairs, max(len(names), 1))
    _check_class_sizes(names, np.bincount(classes), pool, list(intervals))
    cells = np.unique(classes * _NONE + now[of_pairs])
    lacking = np.flatnonzero(np.bincount(cells // _NONE, minlength=len(names)) < len(intervals))
    for label in sorted(lacking.tolist(), key=names.__getitem__):
        for split, (low, high) in intervals.items():
            cells = classes * _NONE + now[of_pairs]
            counts = np.bincount(cells, minlength=_NONE * len(names))
            if counts[label * _NONE + split]:
                continue
            # Whatever moves must not empty the split it leaves, for any of its classes.
            fixed = set(of_pairs[counts[cells] == 1].tolist())
            units = [unit for unit in of_pairs[classes == label].tolist() if unit not in fixed]
            if not units:
                raise PipelineError(
                    f"class {names[label]} cannot get into {SPLITS[split]}: its groups hold too"
                    " many classes at once; split the groups up, collect more images of it, or"
                    " remove it"
                )
            # New ones before those that were placed, and those before what was trained on.
            rank = np.select([kept == _NONE, kept != _TRAIN], [0, 1], 2)
            distance = np.maximum(low - draws, draws - high)
            now[min(units, key=lambda u: (rank[u], distance[u], keys[numbers[u]]))] = split
    return drawn[of_rows], now[of_rows]


def _check_class_sizes(names: list[str], units: Numbers, pool: pa.Table, splits: list[int]) -> None:
    """Refuse classes with fewer units than splits."""
    if (units >= len(splits)).all():
        return
    images = pc.value_counts(pool["label"]).to_pylist()
    counts = {one["values"]: one["counts"] for one in images}
    small = sorted((names[i], units[i]) for i in np.flatnonzero(units < len(splits)))
    found = some(f"{name} has {count} ({counts[name]} images)" for name, count in small)
    raise PipelineError(
        f"each class needs {len(splits)} different pictures or groups to be in"
        f" {', '.join(SPLITS[split] for split in sorted(splits))}, but {found}; collect more"
        " images of it, merge it with another class or remove it"
    )


def _check_train(usable: pa.Table, splits: Numbers) -> None:
    trained = set(usable["label"].filter(pa.array(splits == _TRAIN)).unique().to_pylist())
    judged = np.isin(splits, [_VAL, _TEST])
    missing = sorted(set(usable["label"].filter(pa.array(judged)).unique().to_pylist()) - trained)
    if missing:
        raise PipelineError(
            f"classes {some(missing)} are in val or test but not in train, so no network can"
            " learn them; add training images or remove the classes"
        )


def _table(usable: pa.Table, splits: Numbers) -> pa.Table:
    position = usable.column_names.index("split")
    named = pa.array([*SPLITS, None, None], pa.string()).take(pa.array(splits))
    table = usable.set_column(position, "split", named)
    table = table.filter(pa.array(splits != _DROPPED))
    schema = with_boxes(SPLIT, table.column_names)
    return pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)
