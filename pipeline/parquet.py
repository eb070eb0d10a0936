"""Parquet tables that stages hand to each other."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError, some
from pipeline.files import damaged, missing


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Read columns of a Parquet table that a stage wrote, as a pyarrow.Table.

    Args:
        path: of the table.
        columns: that it has.
        optional: read too, behind the others, as far as it has them.

    Raises:
        PipelineError: the file is missing or damaged, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read([*columns, *optional])  # leaves out what is not there
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    if lacking := [name for name in columns if name not in table.column_names]:
        raise PipelineError(
            f"{path} lacks the columns {some(lacking)}; delete it and run dvc repro"
        )
    return table.select([*columns, *(name for name in optional if name in table.column_names)])
