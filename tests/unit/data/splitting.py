"""Rows of an index, and the splits that the documented rule gives them."""

import hashlib
from typing import Any

import pyarrow as pa

from pipeline.data.split import Shares, split_table
from pipeline.data.tables import INDEX

SHARES = Shares(val=0.15, test=0.25)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def row_of(path: str, **given: Any) -> dict[str, Any]:
    sha256 = given.pop("sha256", sha(path))
    row = dict.fromkeys(INDEX.names) | {"path": path, "label": path.split("/", maxsplit=1)[0]}
    return row | {"sha256": sha256, "cluster": sha256, "bytes": 1} | given


def rows_of(counts: dict[str, int], prefix: str = "", **given: Any) -> list[dict[str, Any]]:
    return [
        row_of(f"{label}/{prefix}{number:04d}", **given)
        for label, count in counts.items()
        for number in range(count)
    ]


def index_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["path"]), schema=INDEX)


def splits_of(rows: list[dict[str, Any]], seed: int = 0, across: Any = "stop") -> dict[str, str]:
    table = split_table(index_of(rows), seed, SHARES, across).table
    return dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True))


def draw(seed: int, key: str) -> float:
    """The draw of a unit, as documented: the first 53 bits of a hash as a fraction."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).hexdigest()
    return (int(digest[:16], 16) >> 11) / 2**53


def expected_split(seed: int, key: str) -> str:
    drawn = draw(seed, key)
    return "test" if drawn < 0.25 else "val" if drawn < 0.25 + 0.15 else "train"


def given_rows(**splits: list[str]) -> list[dict[str, Any]]:
    return [
        row_of(f"{split}/{name}", label=name[0], split=split, sha256=sha(f"{split}/{name}"))
        for split, names in splits.items()
        for name in names
    ]
