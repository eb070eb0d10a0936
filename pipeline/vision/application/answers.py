"""What a model says of files: one by one, and as rows of a table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import as_text

_TEXTS = ("path", "class", "problem")
_GROUP_BYTES = 32 * 2**20  # of a Parquet file's row group, before it is compressed
_READ_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one file.

    Attributes:
        path: of the file.
        label: the most probable class; None if the file cannot be used.
        probabilities: of all classes in their order, sum 1; empty if the file cannot be used.
        problem: why it cannot be used; None if it can.
    """

    path: Path
    label: str | None
    probabilities: tuple[float, ...]
    problem: str | None


def column_names(classes: Sequence[str]) -> list[str]:
    """Return the columns of a table of answers; those of the classes in their order."""
    return ["path", "class", "probability", *(f"p_{name}" for name in classes), "problem"]


def as_row(answer: Answer, classes: Sequence[str]) -> list[Any]:
    """Return the row of an answer, None for what a file that cannot be used does not have."""
    posterior = answer.probabilities or [None] * len(classes)
    best = max(answer.probabilities, default=None)
    return [as_text(answer.path), answer.label, best, *posterior, answer.problem]


def as_table(answers: Sequence[Answer], classes: Sequence[str]) -> pa.Table:
    """Return the rows of at least one answer as a table."""
    columns = zip(*(as_row(answer, classes) for answer in answers), strict=True)
    schema = _schema(classes)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def parquet_writer(path: Path, classes: Sequence[str]) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that adds a table to a Parquet file, in which small ones are joined."""
    waiting: list[pa.Table] = []

    def flush() -> None:
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
            waiting.clear()

    def write(table: pa.Table) -> None:
        waiting.append(table)
        if sum(table.nbytes for table in waiting) >= _GROUP_BYTES:
            flush()

    with pq.ParquetWriter(path, _schema(classes)) as writer:
        yield write
        flush()


def read_answers(file: Path, paths: Sequence[Path]) -> Iterator[Answer]:
    """Yield the answers of a Parquet file, which has a row for each of the paths, in order."""
    rest = iter(paths)
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(_READ_ROWS):
            _, labels, _, *posteriors, problems = (column.to_pylist() for column in batch.columns)
            rows = zip(labels, zip(*posteriors, strict=True), problems, strict=True)
            for label, posterior, problem in rows:
                yield Answer(next(rest), label, posterior if problem is None else (), problem)


def _schema(classes: Sequence[str]) -> pa.Schema:
    return pa.schema(
        (name, pa.string() if name in _TEXTS else pa.float64()) for name in column_names(classes)
    )
