"""Pairs of pictures that were compared in the run before, and how it ended."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.indexing import same_picture
from pipeline.data.indexing.measurements import measuring
from pipeline.data.indexing.same_picture import Pictures
from pipeline.data.indexing.verify import Limits
from pipeline.files import atomic_path

_PAIRS = pa.schema(
    [
        pa.field("first", pa.string()),  # content hashes, the smaller one first
        pa.field("second", pa.string()),
        pa.field("same", pa.bool_()),
    ]
)


class Comparisons:
    """Says whether two paths show one picture; pairs of contents that are known are not read."""

    def __init__(
        self, pictures: Pictures, contents: Mapping[str, str], limits: Limits, cache: Path
    ) -> None:
        """Read what the run before has found.

        Args:
            pictures: compare what is not known.
            contents: the content hash of each path.
            limits: what is usable.
            cache: the folder of what is remembered.
        """
        key = f"{measuring(same_picture)}\n{limits.max_pixels}"
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._file = cache / f"pairs-{name}.parquet"
        present = set(contents.values())
        self._known = {pair: same for pair, same in _read(self._file) if present.issuperset(pair)}
        self._new = False
        self._pictures, self._contents = pictures, contents

    def same(self, first: str, second: str) -> bool:
        """Whether two paths show one picture; not if one of them cannot be read any more."""
        one, other = sorted((self._contents[first], self._contents[second]))
        if (known := self._known.get((one, other))) is not None:
            return known
        answer = self._pictures.same(first, second)
        if answer is not None:
            self._known[one, other], self._new = answer, True
        return bool(answer)

    def save(self) -> None:
        """Remember all pairs of pictures that are still there."""
        if not self._new:
            return
        first, second = ([pair[end] for pair in self._known] for end in (0, 1))
        columns = {"first": first, "second": second, "same": [*self._known.values()]}
        with atomic_path(self._file) as temporary:
            pq.write_table(pa.table(columns, schema=_PAIRS), temporary, compression="zstd")


def _read(file: Path) -> Iterable[tuple[tuple[str, str], bool]]:
    """Return what is remembered; nothing when the file is absent or damaged."""
    try:
        with pq.ParquetFile(file) as stored:
            table = stored.read()
    except (OSError, pa.ArrowException):
        return ()
    if not table.schema.equals(_PAIRS):
        return ()
    first, second, same = (table[name].to_pylist() for name in _PAIRS.names)
    return zip(zip(first, second, strict=True), same, strict=True)
