"""Data sets as public hubs hand them out: Parquet files of image bytes and labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_hub_file(
    file: Path,
    contents: Sequence[bytes | None],
    labels: Sequence[int | None],
    classes: Sequence[str] | None,
    rows_per_group: int = 100,
    **columns: Sequence[str | None],
) -> Path:
    """Write a file as the `datasets` library does: an `Image` and a `ClassLabel` feature."""
    images = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(contents)]
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if classes is not None:
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    table = pa.table(
        {
            "image": pa.array(images, IMAGE),
            "label": pa.array(labels, pa.int64()),
            **{name: pa.array(values, pa.string()) for name, values in columns.items()},
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=rows_per_group)
    return file
