"""Stage split: assign each image to train, val or test."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.groups import crossing, find_hint, groups_from
from pipeline.data.split import SPLITS, Shares, split_table
from pipeline.data.tables import INDEX
from pipeline.errors import PipelineError
from pipeline.files import atomic_path
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages import _paths


def run(params: Params) -> None:
    """Write data/split.parquet."""
    index = read_table(_paths.INDEX, INDEX.names)
    section = params.split
    if section.group_from is not None:
        index = _with_groups(index, section.group_from)
    shares = Shares(section.val, section.test)
    table = split_table(index, section.seed, shares, section.across_given_splits)
    with atomic_path(_paths.SPLIT) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    counts = Counter(table["split"].to_pylist())
    words = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    dropped = sum(1 for problem in index["problem"].to_pylist() if problem is None) - len(table)
    note = f", {dropped} dropped as copies of test or val images" if dropped else ""
    print(f"split: {words}{note} -> {_paths.SPLIT}")
    if not table["group"].drop_null():
        _hint(index, table)


def _with_groups(index: pa.Table, pattern: str) -> pa.Table:
    """Give the images groups by their paths, but for those that have one."""
    names = pa.array(groups_from(pattern, index["path"].to_pylist()), pa.string())
    if not names.drop_null():
        raise PipelineError(
            f"split.group_from: the pattern {pattern} is found in no path, such as"
            f" {index['path'][0]}; repair it, or set it to null"
        )
    groups = pc.coalesce(index["group"], names)
    found = len(groups.unique().drop_null())
    print(f"split: {found} groups in {len(groups) - groups.null_count} of {len(index)} paths")
    return index.set_column(index.column_names.index("group"), "group", groups)


def _hint(index: pa.Table, table: pa.Table) -> None:
    """Say when names suggest groups of which test images and others are members."""
    usable = index.filter(pc.is_null(index["problem"]))
    hint = find_hint(*(usable[name].to_pylist() for name in ("path", "label", "split")))
    if hint is None:
        return
    groups = groups_from(hint.pattern, table["path"].to_pylist())
    test, shared = crossing(groups, table["split"].to_pylist())
    if shared:
        print(
            f"split: hint: {shared} of {test} test images may show what train or val show too, by"
            f" names such as {' and '.join(hint.example)}; if such images belong together, set"
            f" split.group_from: '{hint.pattern}'"
        )
