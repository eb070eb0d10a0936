import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.indexing import measurements as measure
from pipeline.data.indexing.measurements import measure_all
from pipeline.data.indexing.verify import Limits, Measured, measure_file
from pipeline.data.sources.scan import scan

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

    def counted(path: Path, limits: Limits) -> Measured:
        names.append(path.name)
        return measure_file(path, limits)

    monkeypatch.setattr(measure, "measure_file", counted)
    return names


def test_rows_hold_the_scan_and_what_was_measured(root: Path, tmp_path: Path) -> None:
    table = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert table["path"].to_pylist() == [f"{c}/{n}.png" for c in "ab" for n in range(5)]
    row = table.to_pylist()[3]
    alone = measure_file(root / "a/3.png", LIMITS)
    assert {name: row[name] for name in Measured.__dataclass_fields__} == vars(alone)
    assert (row["label"], row["bytes"]) == ("a", (root / "a/3.png").stat().st_size)


def test_an_unchanged_tree_is_not_opened(root: Path, tmp_path: Path, opened: list[str]) -> None:
    first = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 10
    opened.clear()
    assert measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1).equals(first)
    assert opened == []


def test_only_what_is_new_or_changed_is_opened(
    root: Path, tmp_path: Path, opened: list[str]
) -> None:
    measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    (root / "a/1.png").rename(root / "b/1a.png")
    (root / "a/0.png").unlink()
    os.utime(root / "b/3.png", ns=(1, 1))
    content = (root / "b/4.png").read_bytes()
    status = (root / "b/4.png").stat()
    (root / "b/4.png").write_bytes(content + b"x")
    os.utime(root / "b/4.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    table = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert opened == ["1a.png", "3.png", "4.png"]
    fresh = measure_all(scan(root), LIMITS, tmp_path / "other", workers=1)
    assert table.equals(fresh)


def test_other_limits_and_another_folder_measure_anew(
    root: Path, tmp_path: Path, opened: list[str]
) -> None:
    measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    table = measure_all(scan(root), Limits(10_000, 9), tmp_path / "cache", workers=1)
    assert len(opened) == 20
    assert set(table["problem"].to_pylist()) == {"too small: 8 x 9 px, index.min_side is 9 px"}
    moved = root.rename(tmp_path / "moved")
    measure_all(scan(moved), LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 30


def test_an_unreadable_file_is_tried_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unreadable = Measured(problem="unreadable: Permission denied")
        patch.setattr(measure, "measure_file", lambda *_: unreadable)
        table = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
        assert set(table["problem"].to_pylist()) == {"unreadable: Permission denied"}
    table = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert set(table["problem"].to_pylist()) == {None}


def test_what_must_not_be_opened_is_not(root: Path, tmp_path: Path, opened: list[str]) -> None:
    os.mkfifo(root / "a/pipe.png")
    table = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert "pipe.png" not in opened
    assert table["problem"].to_pylist()[5] == "not a regular file"


def test_a_damaged_cache_is_as_good_as_none(root: Path, tmp_path: Path) -> None:
    first = measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(b"PAR1 nonsense")
    assert measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1).equals(first)


def test_an_interrupted_run_keeps_what_it_measured(
    root: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_FILES_PER_PIECE", 3)
    counted = measure.measure_file

    def interrupted(path: Path, limits: Limits) -> Measured:
        if len(opened) == 7:
            raise KeyboardInterrupt
        return counted(path, limits)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    opened.clear()
    measure_all(scan(root), LIMITS, tmp_path / "cache", workers=1)
    assert len(opened) == 4  # of 10, two pieces of 3 were done


def test_two_workers_find_the_same(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(measure, "_FILES_PER_PIECE", 3)
    alone = measure_all(scan(root), LIMITS, tmp_path / "one", workers=1)
    assert measure_all(scan(root), LIMITS, tmp_path / "two", workers=2).equals(alone)
