"""What every image source offers: the table of its images, and the bytes of each."""

import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.images.decode import UnusableImageError
from pipeline.errors import PipelineError
from pipeline.files import as_text
from pipeline.remote import AT_ONCE

# How given splits may be called, and what each is called here.
SPLITS: Mapping[str, str] = MappingProxyType(
    {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
)

_INVISIBLE = "\ufeff\u200b"  # besides control characters; joiners have their place in some scripts
# Not 'none' or 'na', which are words.
_MISSING = {"nan", "<na>", "nat", "#n/a"}

# What is known of an image before its bytes are read.
IMAGES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # names the image within its source
        pa.field("label", pa.string()),  # null only beside an obstacle
        pa.field("split", pa.string()),  # as given: train, val or test
        pa.field("group", pa.string()),  # as given
        pa.field("version", pa.string(), nullable=False),  # changes whenever the bytes may have
        pa.field("obstacle", pa.string()),  # why the bytes are not to be read, as 'kind: detail'
    ]
)


# A folder or file of this machine, or the address of one that fsspec opens: s3://bucket/images.
Place = Path | str


@dataclass(frozen=True)
class Listing:
    """The images of a data set.

    Attributes:
        images: `IMAGES`, sorted by path. Where a manifest gives boxes, also `BOX` and `row`, which
            counts the manifest's rows from 1.
        ignored: files beside the class folders, which belong to no class; and then files that
            are by their names no images.
    """

    images: pa.Table
    ignored: tuple[str, ...] = ()


class ImageSource(Protocol):
    """A data set of labelled images, wherever their bytes are.

    Sources are picklable, and small: worker processes get a copy with each piece of work. Threads
    share one.
    """

    @property
    def folder(self) -> Place:
        """What the paths are relative to. With a path it names an image, in messages and caches."""

    def list_images(self) -> Listing:
        """List the images; reads none of them.

        Raises:
            PipelineError: there is no such data set, or it has another shape.
        """

    def read(self, path: str, max_pixels: int | None = None) -> bytes:
        """Return the content of one image file.

        The order of the listing is the fastest: some sources read sequentially.

        Args:
            path: from the listing.
            max_pixels: refuse what is larger than any image of so many pixels.

        Raises:
            UnusableImageError: gone, unreadable or too large; does not name the image.
            PipelineError: the place of the images does not answer, or refuses.
        """


def read_ahead(
    source: ImageSource, paths: Iterable[str], max_pixels: int | None = None
) -> Iterator[bytes | UnusableImageError]:
    """Read images in order, or find out why they cannot be used.

    Of a place that is not of this machine several are read at once: an answer takes long there.

    Args:
        source: of the images.
        paths: from its listing.
        max_pixels: see `ImageSource.read`.

    Raises:
        PipelineError: the place of the images does not answer, or refuses.
    """

    def read(path: str) -> bytes | UnusableImageError:
        try:
            return source.read(path, max_pixels)
        except UnusableImageError as error:
            return error

    if isinstance(source.folder, Path):
        yield from map(read, paths)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: deque[Future[bytes | UnusableImageError]] = deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def images_table(rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """Make the table of a listing from rows of `IMAGES`, sorted by path.

    A path that is not UTF-8 is spelt out and gets an obstacle.
    """
    texts = sorted(map(_printable, rows), key=lambda row: str(row[0]))
    columns = zip(*texts, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, IMAGES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=IMAGES)


def _printable(row: tuple[object, ...]) -> tuple[object, ...]:
    path, label, *others = row
    if not str(path).isascii():
        try:
            str(path).encode()
        except UnicodeEncodeError:
            path = as_text(str(path))
            others[-1] = "file name is not UTF-8; rename it"
    return path, None if label is None else _printable_label(str(label)), *others


@cache
def _printable_label(label: str) -> str:
    return as_text(label)


def check_labels(labels: Iterable[str | None]) -> None:
    """Refuse labels that no two people would read alike.

    Raises:
        PipelineError: a missing value that became text, an invisible character, or two labels that
            differ in nothing but case, blanks or the way their characters are composed.
    """
    twins: dict[str, list[str]] = {}
    for label in sorted(set(labels) - {None}, key=str):
        assert label is not None
        if label.casefold() in _MISSING:
            raise PipelineError(
                f"a class is called {label}, which is how programs write a missing value; fill in"
                " the labels, remove those images, or give the class another name"
            )
        if any(c in _INVISIBLE or unicodedata.category(c) == "Cc" for c in label):
            raise PipelineError(
                f"the class {label!a} has an invisible character in its name; rename it"
            )
        composed = " ".join(unicodedata.normalize("NFC", label).split())
        # A and a may be two letters to tell apart; Cat and cat are not two animals.
        key = composed if len(composed) == 1 else composed.casefold()
        twins.setdefault(key, []).append(label)
    for first, *others in twins.values():
        if others:
            raise PipelineError(
                f"the classes {first!a} and {others[0]!a} differ only in case, blanks or the"
                " encoding of a letter; give them one name, or names that differ in more"
            )


def text_column(table: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """Return a column as trimmed text; null where it is empty, or where there is no such column.

    Raises:
        PipelineError: its values have no text; names the column after `where`.
    """
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    try:
        texts = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
    except pa.ArrowException as error:
        raise PipelineError(
            f"{where} column {name} holds {table[name].type}, expected text; convert it"
        ) from error
    return pc.if_else(pc.equal(texts, ""), None, texts)
