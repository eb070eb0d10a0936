"""The tables of the images: what each is, and which split it is in; plain Parquet on disk."""

import pyarrow as pa

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
