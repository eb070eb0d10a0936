"""The tables of the images: what each is, and which split it is in; plain Parquet on disk."""

from collections.abc import Sequence

import pyarrow as pa

# Where the object of an image is, if the manifest says so. Both tables have these columns only
# then, so that those of other data sets stay as they are; null where an image has no box.
BOX = pa.schema(
    [
        pa.field("x", pa.float64()),  # of the left edge, px of the image file, from its left
        pa.field("y", pa.float64()),  # of the upper edge, from its top
        pa.field("w", pa.float64()),  # width and height, px
        pa.field("h", pa.float64()),
    ]
)

# data/index.parquet: one row per image, sorted by path.
INDEX = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # names the image within its source
        pa.field("label", pa.string()),  # null where the source gives none, which is a problem
        pa.field("sha256", pa.string()),  # of the content, hex
        pa.field("phash", pa.binary(32)),  # perceptual hash, null where nothing was decoded
        pa.field("width", pa.int32()),  # px, from the header
        pa.field("height", pa.int32()),
        pa.field("mode", pa.string()),  # Pillow's, from the header
        pa.field("bits", pa.int32()),  # per sample, 8 or 16
        pa.field("bytes", pa.int64()),  # of the content, null where it was not read
        pa.field("split", pa.string()),  # as given: train, val or test
        pa.field("group", pa.string()),  # as given
        pa.field("cluster", pa.string()),  # smallest sha256 among the near duplicates
        pa.field("problem", pa.string()),  # why the row is left out
    ]
)

# data/split.parquet: the rows without a problem, each in a split, sorted by path.
SPLIT = pa.schema(
    [
        field.with_nullable(field.nullable and field.name not in ("label", "bytes", "split"))
        for field in INDEX
        if field.name != "problem"
    ]
)


def with_boxes(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the schema of a table, with the columns of boxes if they are among `names`."""
    return pa.schema([*schema, *BOX]) if set(BOX.names) <= set(names) else schema
