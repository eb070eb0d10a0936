"""Parquet files that hold the images themselves, as public hubs hand out data sets."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.images.decode import UnusableImageError, check_bytes
from pipeline.data.sources._files import File, LocalFiles, is_note
from pipeline.data.sources._image_column import find_image_column, image_columns, read_row
from pipeline.data.sources.source import IMAGES, SPLITS, Listing, text_column
from pipeline.errors import PipelineError, some

# A label column must have one of these names.
_LABEL_NAMES = ("label", "labels", "fine_label", "target")


@dataclass(frozen=True)
class ParquetSource:
    """One Parquet file, or a folder of them, with a column of image bytes and one of labels.

    The image column is binary, or a struct with a binary field `bytes` (the `Image` feature of
    Hugging Face). The label column is text, or integers: numbers of the class names that the
    metadata `huggingface` holds, else names themselves. Columns `split` and `group` are optional;
    without `split`, file and folder names may give it: `train-00000-of-00002.parquet`,
    `test/0000.parquet`. The path of an image is its file and row: `train.parquet/0000012`.

    Attributes:
        root: the file or the folder.
    """

    root: Path

    @classmethod
    def accepts(cls, root: Path) -> bool:
        """Whether `root` is such a file or folder; a table of paths and labels is none."""
        if root.is_dir():
            return _holds_parquet_only(root)
        if root.suffix.lower() != ".parquet" or not root.is_file():
            return False
        try:
            return bool(image_columns(pq.read_schema(root)))
        except (OSError, pa.ArrowException):
            return False

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.root if self.root.is_dir() else self.root.parent

    def list_images(self) -> Listing:
        """List the rows of all files; reads labels, but no images.

        Raises:
            PipelineError: a file cannot be read, its columns are missing or ambiguous, or the
                files do not match.
        """
        parts = [_Part.read(self.folder, file) for file in self._files()]
        _check_splits(parts)
        _check_classes(parts)
        images = pa.concat_tables([part.images for part in parts])
        if not len(images):
            raise PipelineError(f"{self.root} has no rows; get the file again, or other ones")
        return Listing(images.sort_by("path"))

    def read(self, path: str, max_pixels: int | None = None) -> bytes:
        """Read the image bytes of one row, as `ImageSource` says; a null reads as no bytes."""
        name, _, row = path.rpartition("/")
        if not row.isdecimal():
            raise UnusableImageError("unreadable: not the name of a row in a Parquet file")
        content = read_row(f"{self.folder}/{name}", int(row))
        check_bytes(len(content), max_pixels)
        return content

    def _files(self) -> list[File]:
        """Return the Parquet files, sorted by name."""
        if self.root.is_dir():
            found = [file for file in LocalFiles(self.root).walk() if _is_parquet(file.path)]
        else:
            found = [LocalFiles(self.folder).look(self.root.name)]
        for file in found:
            if file.obstacle:  # a whole file of images is too much to be left out
                raise PipelineError(
                    f"{self.folder / file.path}: {file.obstacle}; repair or remove it"
                )
        return found


@dataclass(frozen=True)
class _Part:
    """One file of a data set.

    Attributes:
        name: of the file, relative to the folder.
        classes: the names that label numbers stand for, if the file holds them.
        has_split: whether it gives a split to its rows.
        images: `IMAGES`.
    """

    name: str
    classes: tuple[str, ...] | None
    has_split: bool
    images: pa.Table

    @classmethod
    def read(cls, folder: Path, file: File) -> "_Part":
        path = folder / file.path
        try:
            file.path.encode()
            with pq.ParquetFile(path) as parquet:
                schema = parquet.schema_arrow
                find_image_column(path, schema)
                label = _label_column(path, schema)
                wanted = {label, *({"split", "group"} & set(schema.names))}
                table = parquet.read([name for name in schema.names if name in wanted])
        except UnicodeEncodeError as error:
            raise PipelineError(f"{path}: file name is not UTF-8; rename it") from error
        except (OSError, pa.ArrowException) as error:
            raise PipelineError(f"cannot read {path}: {error}; get it again") from error
        classes = _class_names(path, schema, label)
        labels, obstacles = _labels(path, table[label], classes)
        split = _split_of(file.path)
        columns = {
            "path": pa.array([f"{file.path}/{row:07d}" for row in range(len(table))], pa.string()),
            "label": labels,
            "split": pc.coalesce(_splits(path, table), pa.scalar(split, pa.string())),
            "group": text_column(table, "group", f"{path}:"),
            "version": pa.repeat(file.version, len(table)),
            "obstacle": obstacles,
        }
        images = pa.Table.from_arrays([columns[name] for name in IMAGES.names], schema=IMAGES)
        return cls(file.path, classes, split is not None or "split" in schema.names, images)


def _holds_parquet_only(root: Path) -> bool:
    found = False
    for file in LocalFiles(root).walk():
        if _is_parquet(file.path):
            found = True
        elif not is_note(file.path):
            return False  # any other file makes it a class folder
    return found


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _label_column(path: Path, schema: pa.Schema) -> str:
    columns = [name for name in schema.names if name in _LABEL_NAMES]
    if not columns:
        raise PipelineError(
            f"{path}: no label column, found {some(schema.names, 10)}; expected one of"
            f" {', '.join(_LABEL_NAMES)}"
        )
    if len(columns) > 1:
        raise PipelineError(
            f"{path}: the columns {some(columns)} may all hold the labels; keep one of them, or"
            f" rename the others, found {some(schema.names, 10)}"
        )
    return str(columns[0])


def _class_names(path: Path, schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Return the names that the metadata gives to the numbers in the label column, if any."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"][label]["names"]
    except ValueError as error:
        raise PipelineError(
            f"{path}: the metadata 'huggingface' is no JSON ({error}); get the file again, or"
            " remove the metadata"
        ) from error
    except (KeyError, TypeError):
        return None  # a label of another feature than ClassLabel
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _labels(
    path: Path, column: pa.ChunkedArray, classes: tuple[str, ...] | None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the labels as text, null where there is none, and then the obstacle."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise PipelineError(
            f"{path}: the column of labels holds {kind}, expected integers or text; convert it"
        )
    if _is_text(kind) or classes is None:
        texts = text_column(pa.table({"label": column}), "label", f"{path}:")
        return texts, _unless(texts, "no label: the row has none")
    numbers = column.cast(kind)
    known = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(classes)))
    texts = pc.take(pa.array(classes, pa.string()), pc.if_else(known, numbers, None))
    # Hubs write -1 where a label is kept back.
    reason = pc.binary_join_element_wise(
        f"no label: the {len(classes)} classes that the file names have no number ",
        pc.coalesce(numbers.cast(pa.string()), "at all"),
        "",
    )
    reason = pc.if_else(pc.is_null(numbers), "no label: the row has none", reason)
    return texts, _unless(texts, reason)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _unless(found: pa.ChunkedArray, otherwise: Any) -> pa.ChunkedArray:
    return pc.if_else(pc.is_valid(found), pa.scalar(None, pa.string()), otherwise)


def _splits(path: Path, table: pa.Table) -> pa.ChunkedArray:
    """Return the column `split` in our own words, null where it gives none."""
    given = pc.utf8_lower(text_column(table, "split", f"{path}:"))
    for name in given.unique().drop_null().to_pylist():
        if name not in SPLITS:
            raise PipelineError(
                f"{path}: the column split holds {name}, expected train, val, test or nothing"
            )
    own = pc.index_in(given, pa.array(SPLITS, pa.string()))
    return pc.take(pa.array(SPLITS.values(), pa.string()), own)


def _split_of(name: str) -> str | None:
    """Return the split that a file is named after, or else a folder that it lies in."""
    path = PurePosixPath(name)
    for part in (path.stem, *(parent.name for parent in path.parents)):
        first_word = re.split(r"[^a-z]", part.lower())[0]
        if first_word in SPLITS:
            return SPLITS[first_word]
    return None


def _check_splits(parts: list[_Part]) -> None:
    without = [part.name for part in parts if not part.has_split]
    if without and len(without) < len(parts):
        named = [part.name for part in parts if part.has_split]
        raise PipelineError(
            f"Parquet files with a given split ({some(named)}) beside others without"
            f" ({some(without)}); name each after train, val or test, or none"
        )


def _check_classes(parts: list[_Part]) -> None:
    for part in parts:
        if part.classes != parts[0].classes:
            raise PipelineError(
                f"{parts[0].name} and {part.name} give different names to the numbers of their"
                f" classes: {some(parts[0].classes or ['none'], 3)}, and"
                f" {some(part.classes or ['none'], 3)}; keep files of one data set in a folder"
            )
