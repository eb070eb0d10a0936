"""Stage split: assign each image to train, val or test."""

from collections import Counter

import pyarrow.parquet as pq

from pipeline.data.split import SPLITS, Shares, split_table
from pipeline.data.tables import INDEX
from pipeline.files import atomic_path
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages import _paths


def run(params: Params) -> None:
    """Write data/split.parquet."""
    index = read_table(_paths.INDEX, INDEX.names)
    section = params.split
    shares = Shares(section.val, section.test)
    table = split_table(index, section.seed, shares, section.across_given_splits)
    with atomic_path(_paths.SPLIT) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    counts = Counter(table["split"].to_pylist())
    words = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    dropped = sum(1 for problem in index["problem"].to_pylist() if problem is None) - len(table)
    note = f", {dropped} dropped as copies of test or val images" if dropped else ""
    print(f"split: {words}{note} -> {_paths.SPLIT}")
