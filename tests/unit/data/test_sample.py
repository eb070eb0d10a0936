import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from pipeline.data.sample import (
    DIGITS_SOURCE,
    folder_names,
    load_digits,
    long_tail,
    write_sample,
)


def test_the_tail_falls_exponentially_from_class_to_class() -> None:
    labels = np.repeat([0, 1, 2], 100)
    kept = long_tail(labels, 100.0, seed=0)
    # 100 * 100^0, 100 * 100^(-1/2), 100 * 100^(-1).
    assert np.bincount(labels[kept]).tolist() == [100, 10, 1]
    assert kept == sorted(set(kept))


def test_ratio_1_keeps_all_and_one_class_is_no_division_by_zero() -> None:
    labels = np.array([0, 1, 1, 0, 2])
    assert long_tail(labels, 1.0, seed=3) == [0, 1, 2, 3, 4]
    assert long_tail(np.zeros(4, np.int64), 10.0, seed=3) == [0, 1, 2, 3]


def test_every_class_keeps_an_image() -> None:
    assert np.bincount(np.array([0, 1])[long_tail(np.array([0, 1]), 1e6, 0)]).tolist() == [1, 1]


def test_the_seed_decides_which_are_kept() -> None:
    labels = np.repeat([0, 1], 50)
    assert long_tail(labels, 5.0, seed=1) == long_tail(labels, 5.0, seed=1)
    assert long_tail(labels, 5.0, seed=1) != long_tail(labels, 5.0, seed=2)


def test_digits_are_stretched_to_the_full_range() -> None:
    pictures, labels = load_digits()
    original = datasets.load_digits()
    assert len(pictures) == 1797
    assert pictures[0].size == (8, 8)
    assert labels.tolist() == original.target.tolist()
    grey = np.asarray(pictures[7], np.float64)
    assert np.abs(grey - original.images[7] * 255 / 16).max() <= 0.5
    assert grey.max() == 255 * original.images[7].max() // 16


def test_class_names_become_folder_names() -> None:
    assert folder_names(["T-shirt/top", "0 - zero", "Ankle boot"]) == [
        "T-shirt_top",
        "0_-_zero",
        "Ankle_boot",
    ]
    assert folder_names(["../etc", "a"]) == ["etc", "a"]
    assert folder_names(["a/b", "A b", ".."]) == ["000_a_b", "001_A_b", "002_"]


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_folder_is_replaced_whole_and_with_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "sample"
    pictures, labels = load_digits()
    named = [
        (f"{label}/{n:04d}", picture)
        for n, (label, picture) in enumerate(zip(labels, pictures, strict=True))
    ]
    assert write_sample(folder, named[:30], DIGITS_SOURCE) == 30
    first = _digests(folder)
    (folder / "0" / "stale.png").touch()
    write_sample(folder, named[:30], DIGITS_SOURCE)
    assert _digests(folder) == first
    assert [path.name for path in folder.parent.iterdir()] == ["sample"]
    assert np.array_equal(Image.open(folder / "0/0000.png"), pictures[0])


def test_the_old_sample_survives_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    picture = Image.new("L", (8, 8))
    write_sample(folder, [("a/1", picture)], "old")

    def broken():
        yield "a/2", picture
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_sample(folder, broken(), "new")
    assert sorted(_digests(folder)) == ["SOURCE.md", "a/1.png"]


def test_source_and_licence_stand_beside_the_images(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", [("a/1", Image.new("L", (8, 8)))], DIGITS_SOURCE)
    text = (tmp_path / "sample" / "SOURCE.md").read_text()
    assert "CC BY 4.0" in text
    assert "Alpaydin" in text


def test_photographs_become_jpeg_and_small_pictures_stay_lossless(tmp_path: Path) -> None:
    pictures = [("a/1", Image.new("RGB", (129, 20))), ("a/2", Image.new("RGBA", (128, 20)))]
    write_sample(tmp_path / "sample", pictures, "x")
    assert sorted(p.name for p in (tmp_path / "sample/a").iterdir()) == ["1.jpg", "2.png"]
