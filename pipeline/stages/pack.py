"""pack: the usable images of each split, decoded once, into shards."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.packing.pack import PackRow, pack, pack_key
from pipeline.data.reuse import keep, open_kept
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo
from pipeline.data.sources.open import open_source
from pipeline.errors import some
from pipeline.files import fresh_folder, repository
from pipeline.params import Pack, Params
from pipeline.parquet import read_table
from pipeline.stages._paths import PACKED, SPLIT, STATE

SPLITS = ("train", "val", "test")


def run(params: Params) -> None:
    """Write data/packed/{train,val,test}."""
    table = read_table(SPLIT, ["path", "label", "sha256", "bits", "split"])
    info = _set_info(params.pack, table)
    rows = _rows_by_split(table, info.classes)
    source = open_source(params.data.root)
    state, key = repository() / STATE / "packed", pack_key(info)
    kept = open_kept(state, key)
    with fresh_folder(PACKED) as packed:
        for split in SPLITS:
            pack(rows[split], source, info, packed / split, kept=kept)
    keep(state, key, PACKED)
    counts = ", ".join(f"{split} {len(rows[split])}" for split in SPLITS)
    size = "x".join(map(str, info.shape))
    print(f"pack: {counts} images of {size} {info.dtype} -> {PACKED}")


def _set_info(pack: Pack, table: pa.Table) -> SetInfo:
    bit_depth = pack.bit_depth
    if bit_depth == "auto":
        deep = table.filter(pc.equal(table["bits"], 16))["path"].to_pylist()
        bit_depth = 16 if deep else 8
        if 0 < len(deep) < len(table):
            print(
                f"pack: {len(deep)} of {len(table)} images have 16 bits ({some(deep, 3)}), so all"
                " are packed with 16, which takes twice the memory; to pack all with 8, set"
                " pack.bit_depth to 8; to say that 16 is meant, set it to 16"
            )
    preprocessing = Preprocessing(
        pack.height, pack.width, pack.channels, pack.resize, pack.background, bit_depth
    )
    classes = tuple(sorted(table["label"].unique().to_pylist()))
    return SetInfo(classes, preprocessing, f"uint{bit_depth}")


def _rows_by_split(table: pa.Table, classes: tuple[str, ...]) -> dict[str, list[PackRow]]:
    """Return the rows of each split, sorted by path."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows: dict[str, list[PackRow]] = {split: [] for split in SPLITS}
    table = table.sort_by("path")
    columns = (table[name].to_pylist() for name in ("path", "label", "sha256", "split"))
    for path, label, sha256, split in zip(*columns, strict=True):
        rows[split].append(PackRow(path, numbers[label], sha256))
    return rows
