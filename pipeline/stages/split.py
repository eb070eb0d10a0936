"""Stage split: assign each image to train, val or test.

What was decided once is kept while the question is the same: DVC leaves the table of the run before
where it is (`persist`), and git has the placements that the rule alone would not give.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.groups import crossing, find_hint, groups_from
from pipeline.data.split import SPLITS, Shares, split_table
from pipeline.data.tables import BOX, INDEX
from pipeline.errors import PipelineError, some
from pipeline.files import atomic_path, write_json
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages import _paths

_QUESTION = b"convoy"  # in the table's metadata


def run(params: Params) -> None:
    """Write data/split.parquet and data/placed.json."""
    index = read_table(_paths.INDEX, INDEX.names, BOX.names)
    section = params.split
    if section.group_from is not None:
        index = _with_groups(index, section.group_from)
    shares = Shares(section.val, section.test)
    question = section.model_dump(include={"seed", "val", "test", "group_from"})
    placed = [*_exceptions(question), *_last_table(question)]
    found = split_table(index, section.seed, shares, section.across_given_splits, placed)
    table = found.table.replace_schema_metadata({_QUESTION: json.dumps(question)})
    # The exceptions first: without the table they are enough.
    write_json(
        _paths.PLACED, {"question": question, "placed": dict(sorted(found.exceptions.items()))}
    )
    with atomic_path(_paths.SPLIT) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    counts = Counter(table["split"].to_pylist())
    words = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    dropped = index["problem"].null_count - len(table)
    note = f", {dropped} dropped as copies of test or val images" if dropped else ""
    print(f"split: {words}{note} -> {_paths.SPLIT}")
    if found.moved:
        print(
            "split: moved to another split, since new or missing images left no choice:"
            f" {some(found.moved)}"
        )
    if table["group"].null_count == len(table):
        _hint(index, table)


def _exceptions(question: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the placements that differ from what is drawn, by content hash."""
    try:
        stored = json.loads(_paths.PLACED.read_text(encoding="utf-8"))
        asked, placed = stored["question"], dict(stored["placed"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(error) from error
    if not all(split in SPLITS for split in placed.values()):
        raise _damaged(f"expected {', '.join(SPLITS)} for each image")
    return placed.items() if asked == question else ()


def _damaged(how: object) -> PipelineError:
    return PipelineError(
        f"{_paths.PLACED} is damaged ({how}); take it back from git: git checkout {_paths.PLACED}"
    )


def _last_table(question: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the placements of the table that this run replaces, by content hash."""
    try:
        with pq.ParquetFile(_paths.SPLIT) as file:
            metadata = file.schema_arrow.metadata or {}
            if metadata.get(_QUESTION) != json.dumps(question).encode():
                return ()
            table = file.read(["sha256", "split"])
            return zip(*(table[name].to_pylist() for name in ("sha256", "split")), strict=True)
    except (OSError, KeyError, pa.ArrowException):
        return ()  # the exceptions and the rule say the same


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
