"""A folder of class folders, or of given splits that hold class folders."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.sources._bucket import BucketFiles
from pipeline.data.sources._files import File, LocalFiles, is_note
from pipeline.data.sources._places import files_below, read_below
from pipeline.data.sources.source import SPLITS, Listing, Place, images_table
from pipeline.errors import PipelineError, some

_SILENT = {".md", ".txt"}  # beside the class folders, these are as usual as in any repository
_KINDS = {
    True: "a folder of class folders, to a .csv or .parquet manifest, or to Parquet files of images"
    " and labels",
    False: "a folder of class folders, or to a .csv manifest",
}

_Row = tuple[object, ...]


@dataclass(frozen=True)
class FolderSource:
    """Image files in class folders: `cat/1.png`, or `train/cat/1.png` with given splits.

    Symbolic links to files and to folders are followed, also to outside the data folder. One that
    leads nowhere or in a circle is listed with an obstacle. Notes and tables of labels beside the
    images are no images, and a folder that holds nothing else is no class.

    DVC 3.67, which hashes the data folder, follows links to files, but not to folders: a change
    below a linked folder does not re-run the index. It fails on a link to a file that leads
    nowhere or to itself, unless `.dvcignore` names the link.

    Attributes:
        folder: of the class folders.
    """

    folder: Place

    def list_images(self) -> Listing:
        """List the image files, as `ImageSource` says."""
        files = files_below(self.folder)
        if not files.exists():
            raise PipelineError(
                f"data.root is {self.folder}: no such folder or manifest{_here(self.folder)}; set"
                f" data.root in params.yaml to {_KINDS[isinstance(self.folder, Path)]}"
            )
        folders, loose = files.children()
        folders, notes = _without_notes(files, folders)
        splits = [name for name in folders if name.lower() in SPLITS]
        if splits and len(splits) < len(folders):
            classes = [name for name in folders if name not in splits]
            raise PipelineError(
                f"{self.folder} mixes folders of given splits ({some(splits)}) with others"
                f" ({some(classes)}); move the others into train/, or rename a class that is"
                " called like a split"
            )
        # Folder, label, given split.
        class_folders: list[tuple[str, str, str | None]] = []
        if not splits:
            class_folders = [(name, name, None) for name in folders]
        for name in splits:
            inner, inner_loose = files.children(name)
            inner, inner_notes = _without_notes(files, inner, f"{name}/")
            loose += inner_loose
            notes += inner_notes
            class_folders += [(f"{name}/{label}", label, SPLITS[name.lower()]) for label in inner]
        if not class_folders:
            raise self._no_class_folders(splits, loose)
        # A broken link may have been a class folder: it must not just be ignored.
        broken = [file for file in loose if file.is_broken_link]
        rows = [_row(file, None, None) for file in broken]
        rows += self._class_rows(files, class_folders, notes)
        ignored = [
            file.path
            for file in loose
            if not file.is_broken_link and PurePosixPath(file.path).suffix.lower() not in _SILENT
        ]
        return Listing(images_table(rows), (*ignored, *notes))

    def read(self, path: str, max_pixels: int | None = None) -> bytes:
        """Read one image file, as `ImageSource` says."""
        return read_below(self.folder, path, max_pixels)

    def _class_rows(
        self,
        files: LocalFiles | BucketFiles,
        class_folders: list[tuple[str, str, str | None]],
        notes: list[str],
    ) -> list[_Row]:
        """List the images of the classes; the notes beside them are added to `notes`."""
        rows: list[_Row] = []
        empty = []
        for folder, label, split in class_folders:
            found = list(files.walk(folder))
            beside = {file.path for file in found if is_note(file.path)}
            notes += [file.path for file in found if file.path in beside]
            rows += [_row(file, label, split) for file in found if file.path not in beside]
            empty += [] if found else [folder]
        if empty:
            raise PipelineError(
                f"{self.folder}: no files in the class folders {some(empty)}; add images or remove"
                " the folders"
            )
        return rows

    def _no_class_folders(self, splits: list[str], loose: list[File]) -> PipelineError:
        if splits:
            return PipelineError(
                f"{self.folder}: found no class folders in {some(splits)}, whose names mean given"
                " splits; make one folder per class in each, such as train/cats/, or rename them"
                " if they are the classes"
            )
        files = [f"{f.path} ({f.obstacle})" if f.is_broken_link else f.path for f in loose]
        return PipelineError(
            f"{self.folder} has no class folders{f', but files: {some(files)}' if files else ''};"
            " expected one folder per class with its images, such as cats/ and dogs/"
            f"{', or Parquet files of images and labels' if isinstance(self.folder, Path) else ''}"
        )


def _without_notes(
    files: LocalFiles | BucketFiles, folders: list[str], prefix: str = ""
) -> tuple[list[str], list[str]]:
    """Take out the folders that hold notes alone; return the others, and the notes."""
    kept, notes = [], []
    for name in folders:
        found = []
        for file in files.walk(prefix + name):
            found.append(file.path)
            if not is_note(file.path):
                break
        alone = bool(found) and is_note(found[-1])
        notes += found if alone else []
        kept += [] if alone else [name]
    return kept, notes


def _here(folder: Place) -> str:
    return f" in {Path.cwd()}" if isinstance(folder, Path) else ""


def _row(file: File, label: str | None, split: str | None) -> _Row:
    return file.path, label, split, None, file.version, file.obstacle
