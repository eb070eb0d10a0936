"""Many files, given by a list, are classified in pieces wherever work is spread."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.errors import PipelineError
from pipeline.files import as_text, atomic_path
from pipeline.parallel import map_chunks
from pipeline.vision.application.answers import Answer, as_table, parquet_writer
from pipeline.vision.application.classify import classify_files
from pipeline.vision.bundle.description import read_description
from pipeline.vision.inference.predict import BATCH_SIZE
from pipeline.vision.inference.sets import load_once

# Whole batches: those of a piece are then the batches of a run that takes all files at once.
_PIECE = 2 * BATCH_SIZE
_READERS = 4  # threads of a worker: files of a network's file system are waited for
_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),  # as the file system has it
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("readable", pa.bool_()),
    ]
)


def save_listing(paths: Iterable[Path], listing: Path) -> None:
    """Write which files there are, each with what changes when its content does, as Parquet.

    Equal listings are equal bytes.
    """
    rest = iter(paths)
    with pq.ParquetWriter(listing, _SCHEMA) as writer:
        while piece := list(islice(rest, _PIECE)):
            writer.write_table(pa.Table.from_pylist([_listed(path) for path in piece], _SCHEMA))


def classify_listed(model: Path, listing: Path, output: Path) -> None:
    """Classify the files of a listing, and write their answers as Parquet.

    Args:
        model: a bundle folder; where work is spread, relative to what its nodes fetch.
        listing: see `save_listing`; likewise.
        output: gets a row for each file, in order, as `as_table` makes it.

    Raises:
        PipelineError: no bundle, or a file that is not the one that was listed.
    """
    with pq.ParquetFile(listing) as file:
        rows = range(file.metadata.num_rows)
    tables = map_chunks(
        partial(_classify_rows, model, listing), rows, chunk=_PIECE, label="predict"
    )
    classes = read_description(model).classes
    with atomic_path(output) as temporary, parquet_writer(temporary, classes) as write:
        for table in tables:
            write(table)


def _classify_rows(model: Path, listing: Path, rows: Sequence[int]) -> pa.Table:
    """Classify one piece of a listing. Runs in a worker, which has one core."""
    torch.set_num_threads(1)
    bundle = load_once(model.resolve())
    with pq.ParquetFile(listing) as file:
        listed = file.read_row_group(rows[0] // _PIECE).to_pylist()
    paths = [Path(os.fsdecode(row["path"])) for row in listed]
    answers = list(classify_files(bundle, paths, _READERS))
    for answer, row in zip(answers, listed, strict=True):
        _check_same(answer, row)
    return as_table(answers, bundle.classes)


def _check_same(answer: Answer, before: Mapping[str, Any]) -> None:
    """Refuse the answer to another file than the one that was listed.

    Raises:
        PipelineError: it has changed, or lies on this machine alone.
    """
    path, here = as_text(answer.path), platform.node()
    now = _listed(answer.path)
    if (now["size"], now["mtime_ns"]) != (before["size"], before["mtime_ns"]):
        raise PipelineError(
            f"{path} is not the file on {here} that it was when it was listed: {_state(now)}, it"
            f" was {_state(before)}; if it has changed, run again; else put it where all nodes see"
            " the same file, or set resources.address to null to classify it on your machine"
        )
    unreadable = (answer.problem or "").startswith(f"{path}: unreadable: ")
    if unreadable == before["readable"]:
        raise PipelineError(
            f"{path} can{'not' * unreadable} be read on {here}, unlike where it was listed; give"
            " the processes of the cluster the same rights to it, or set resources.address to null"
            " to classify it on your machine"
        )


def _listed(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
    except OSError:
        size, mtime_ns = -1, -1
    may = os.access(path, os.R_OK)
    return {"path": os.fsencode(path), "size": size, "mtime_ns": mtime_ns, "readable": may}


def _state(row: Mapping[str, Any]) -> str:
    if row["size"] < 0:
        return "not there"
    when = datetime.fromtimestamp(row["mtime_ns"] / 1e9, UTC)
    return f"{row['size']} bytes of {when:%Y-%m-%d %H:%M:%S.%f} UTC"
