import os
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import PIL
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.data.images import decode, strict
from pipeline.data.images.decode import UnusableImageError
from pipeline.data.indexing import measurements as measure
from pipeline.data.indexing import near_duplicates, verify
from pipeline.data.indexing.measurements import measure_all
from pipeline.data.indexing.verify import Limits
from pipeline.data.sources.folder import FolderSource

LIMITS = Limits(10_000, 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(5):
            picture = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / label / f"{number}.png")
    return root


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files were opened."""
    names: list[str] = []

    read = FolderSource.read

    def counted(source: FolderSource, path: str, max_pixels: int | None = None) -> bytes:
        names.append(path.rpartition("/")[2])
        return read(source, path, max_pixels)

    monkeypatch.setattr(FolderSource, "read", counted)
    return names


def _measure(root: Path, limits: Limits, cache: Path, workers: int) -> pa.Table:
    source = FolderSource(root)
    return measure_all(source, source.list_images().images, limits, cache, workers)


def test_rows_hold_the_scan_and_what_was_measured(root: Path, tmp_path: Path) -> None:
    table = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert table["path"].to_pylist() == [f"{c}/{n}.png" for c in "ab" for n in range(5)]
    row = table.to_pylist()[3]
    alone = dict(vars(verify.measure((root / "a/3.png").read_bytes(), LIMITS)))
    assert alone.pop("size") == row["bytes"] == (root / "a/3.png").stat().st_size
    assert {name: row[name] for name in alone} == alone
    assert row["label"] == "a"


def test_an_unchanged_tree_is_not_opened(root: Path, tmp_path: Path, opened: list[str]) -> None:
    first = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 10
    opened.clear()
    assert _measure(root, LIMITS, tmp_path / "cache", workers=1).equals(first)
    assert opened == []


def test_only_what_is_new_or_changed_is_opened(
    root: Path, tmp_path: Path, opened: list[str]
) -> None:
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    (root / "a/1.png").rename(root / "b/1a.png")
    (root / "a/0.png").unlink()
    os.utime(root / "b/3.png", ns=(1, 1))
    content = (root / "b/4.png").read_bytes()
    status = (root / "b/4.png").stat()
    (root / "b/4.png").write_bytes(content + b"x")
    os.utime(root / "b/4.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    table = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert opened == ["1a.png", "3.png", "4.png"]
    fresh = _measure(root, LIMITS, tmp_path / "other", workers=1)
    assert table.equals(fresh)


def test_other_limits_and_another_folder_measure_anew(
    root: Path, tmp_path: Path, opened: list[str]
) -> None:
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    table = _measure(root, Limits(10_000, 9), tmp_path / "cache", workers=1)
    assert len(opened) == 20
    assert set(table["problem"].to_pylist()) == {"too small: 8 x 9 px, index.min_side is 9 px"}
    moved = root.rename(tmp_path / "moved")
    _measure(moved, LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 30


@pytest.mark.parametrize("library", [PIL, cv2, np])
def test_another_version_of_what_decodes_opens_all_files_again(
    root: Path,
    tmp_path: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    library: ModuleType,
) -> None:
    first = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    monkeypatch.setattr(library, "__version__", "0.0.1")
    assert _measure(root, LIMITS, tmp_path / "cache", workers=1).equals(first)
    assert len(opened) == 10
    opened.clear()
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    monkeypatch.undo()
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert opened == []  # neither version has taken the other's measurements away


@pytest.mark.parametrize("module", [decode, strict, near_duplicates, verify])
def test_other_code_that_decodes_opens_all_files_again(
    root: Path,
    tmp_path: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
) -> None:
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    changed = tmp_path / "changed.py"
    changed.write_bytes(Path(str(module.__file__)).read_bytes() + b"\n")
    monkeypatch.setattr(module, "__file__", str(changed))
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 10


def test_an_unreadable_file_is_tried_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> bytes:
            raise UnusableImageError("unreadable: Permission denied")

        patch.setattr(FolderSource, "read", refuse)
        table = _measure(root, LIMITS, tmp_path / "cache", workers=1)
        assert set(table["problem"].to_pylist()) == {"unreadable: Permission denied"}
    table = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert set(table["problem"].to_pylist()) == {None}


def test_what_must_not_be_opened_is_not(root: Path, tmp_path: Path, opened: list[str]) -> None:
    os.mkfifo(root / "a/pipe.png")
    table = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert "pipe.png" not in opened
    assert table["problem"].to_pylist()[5] == "not a regular file"


def test_a_damaged_cache_is_as_good_as_none(root: Path, tmp_path: Path) -> None:
    first = _measure(root, LIMITS, tmp_path / "cache", workers=1)
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(b"PAR1 nonsense")
    assert _measure(root, LIMITS, tmp_path / "cache", workers=1).equals(first)


def test_an_interrupted_run_keeps_what_it_measured(
    root: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_IMAGES_PER_PIECE", 3)
    counted = FolderSource.read

    def interrupted(source: FolderSource, path: str, max_pixels: int | None = None) -> bytes:
        if len(opened) == 7:
            raise KeyboardInterrupt
        return counted(source, path, max_pixels)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _measure(root, LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    _measure(root, LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 4  # of 10, two pieces of 3 were done


def test_two_workers_find_the_same(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(measure, "_IMAGES_PER_PIECE", 3)
    alone = _measure(root, LIMITS, tmp_path / "one", workers=1)
    assert _measure(root, LIMITS, tmp_path / "two", workers=2).equals(alone)
