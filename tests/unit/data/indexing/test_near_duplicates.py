import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from sklearn.datasets import load_digits

from pipeline.data.indexing.near_duplicates import (
    near_duplicate_clusters,
    perceptual_hash,
    thumbnail,
)
from pipeline.data.indexing.same_picture import same_picture
from tests.pictures import line_drawing, recompressed, stroke, xray

BITS = 20
PHOTOGRAPHS = "CONVOY_TEST_PHOTOGRAPHS"  # a folder; what is measured on real ones is skipped else


def _hashes(pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.frombuffer(b"".join(map(perceptual_hash, pictures)), np.uint8)
    thumbnails = np.frombuffer(b"".join(map(thumbnail, pictures)), np.uint8)
    return hashes.reshape(-1, 32), thumbnails.reshape(-1, 192)


def _clusters(pictures: list[Image.Image], bits: int = BITS) -> list[set[int]]:
    """Cluster pictures whose files all differ; return the clusters of two and more."""
    contents = np.array([f"{number:064x}" for number in range(len(pictures))])
    grey = [np.asarray(picture.convert("L")) for picture in pictures]

    def same(first: int, second: int) -> bool:
        return same_picture(grey[first], grey[second])

    return _groups(near_duplicate_clusters(contents, *_hashes(pictures), bits, same))


def _always(*_: int) -> bool:
    return True


def _groups(numbers: np.ndarray) -> list[set[int]]:
    groups = [set(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)]
    return sorted((group for group in groups if len(group) > 1), key=min)


def _landscape(seed: int, side: int = 64) -> Image.Image:
    """A picture with structure at all scales, as photographs have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells, weight in ((3, 60), (6, 40), (12, 25), (24, 12)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        fine = coarse.resize((side, side), Image.Resampling.BICUBIC)
        total += (np.asarray(fine) - 128.0) / 128 * weight
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def test_the_hash_is_the_dct_against_its_median() -> None:
    picture = _landscape(0, 32)
    grey = np.asarray(picture.convert("L"), np.float64)
    # Scipy's transform has twice our scale and, like ours, no orthogonal one.
    low = dctn(grey, type=2)[:16, :16]
    expected = np.packbits(low > np.median(low))
    found = np.frombuffer(perceptual_hash(picture), np.uint8)
    # Our basis is rounded to integers: a bit at the median may fall otherwise.
    assert np.bitwise_count(expected ^ found).sum() <= 1
    assert np.bitwise_count(found).sum() == 128


@pytest.mark.parametrize(
    "copy",
    [
        lambda picture: recompressed(picture, 60),
        lambda picture: picture.resize((32, 32), Image.Resampling.LANCZOS),
        lambda picture: picture.resize((97, 97), Image.Resampling.BICUBIC),
        lambda picture: picture.resize((64, 50), Image.Resampling.BILINEAR),
        lambda picture: picture.convert("L"),
    ],
    ids=["jpeg quality 60", "half the size", "half as large again", "squeezed", "grey"],
)
def test_copies_are_found_and_others_kept_apart(copy) -> None:
    pictures = [_landscape(seed) for seed in range(40)]
    found = _clusters(pictures + [copy(picture) for picture in pictures])
    assert found == [{number, number + 40} for number in range(40)]


@pytest.mark.parametrize(("draw", "count"), [(stroke, 3000), (line_drawing, 700), (xray, 900)])
def test_no_two_that_look_alike_are_one(draw, count: int) -> None:
    """By the hash alone, 107 pairs of these strokes are one, and thousands of the drawings."""
    pictures = [draw(seed) for seed in range(count)]
    assert _clusters(pictures) == []


@pytest.mark.parametrize("draw", [stroke, line_drawing, xray])
def test_no_two_faint_pictures_are_one(draw) -> None:
    greys = [np.asarray(draw(seed), np.float64) for seed in range(500)]
    faint = [Image.fromarray(np.rint(100 + 0.1 * grey).astype(np.uint8)) for grey in greys]
    assert _clusters(faint) == []


def _halved(picture: Image.Image, kind: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), kind)


@pytest.mark.parametrize(
    ("draw", "copy", "least"),
    [
        (stroke, recompressed, 85),  # at half the size, strokes have 14 px: too few for the hash
        (line_drawing, recompressed, 97),
        (line_drawing, _halved, 100),
        (xray, recompressed, 100),
        (xray, _halved, 100),
    ],
)
def test_copies_among_pictures_that_look_alike_are_found(draw, copy, least: int) -> None:
    pictures = [draw(seed) for seed in range(100)]
    clusters = _clusters(pictures + [copy(picture) for picture in pictures])
    assert all(len(c) == 2 and max(c) == min(c) + 100 for c in clusters)
    assert len(clusters) >= least


@pytest.mark.parametrize(
    ("copy", "share"),
    [(recompressed, 0.99), (partial(_halved, kind=Image.Resampling.LANCZOS), 0.95)],
)
def test_copies_of_photographs_are_found(copy, share: float) -> None:
    """On a folder of 32 px photographs or larger ones, such as CIFAR-10 as JPEG."""
    folder = os.environ.get(PHOTOGRAPHS)
    if folder is None:
        pytest.skip(f"{PHOTOGRAPHS} names no folder of photographs")
    files = sorted(f for f in Path(folder).rglob("*") if f.suffix.lower() == ".jpg")
    pictures = [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // 1000)]]
    clusters = _clusters(pictures + [copy(picture) for picture in pictures])
    found = sum(number + len(pictures) in c for c in clusters for number in c)
    assert found >= share * len(pictures)


def test_no_two_of_the_digits_are_one() -> None:
    levels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert _clusters([Image.fromarray(picture) for picture in levels]) == []


def test_the_same_shape_in_another_colour_is_another_picture() -> None:
    shape = np.zeros((40, 40), bool)
    shape[8:30, 12:25] = True
    # Of one lightness, so that the hash sees no difference.
    red, blue, nearly_red = (
        Image.fromarray(np.where(shape[..., None], colour, 255).astype(np.uint8))
        for colour in ((200, 20, 20), (20, 60, 255), (196, 24, 20))
    )
    assert perceptual_hash(red) == perceptual_hash(nearly_red)
    assert _clusters([red, blue, nearly_red]) == [{0, 2}]


def test_pictures_of_one_colour_are_linked_by_content_alone() -> None:
    flat = [Image.new("RGB", (20 + n, 20), (n, n, n)) for n in range(30)]
    assert _clusters(flat) == []
    hashes, thumbnails = _hashes([flat[0], flat[0], flat[1]])
    contents = np.array(["a", "a", "b"])
    assert _groups(near_duplicate_clusters(contents, hashes, thumbnails, BITS, _always)) == [{0, 1}]


@pytest.mark.parametrize("bits", [0, 2, 6, 20, 64])
def test_all_pairs_within_the_distance_are_linked_exactly(bits: int) -> None:
    rng = np.random.default_rng(bits)
    bases = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    unpacked = np.unpackbits(np.repeat(bases, 20, axis=0), axis=1)
    for row in unpacked:  # up to 2 * bits + 2 bits away from the base
        row[rng.choice(256, rng.integers(0, 2 * bits + 3), replace=False)] ^= 1
    hashes = np.packbits(unpacked, axis=1)
    thumbnails = np.tile(np.arange(192, dtype=np.uint8), (len(hashes), 1))
    contents = np.array([f"{n:064x}" for n in range(len(hashes))])
    found = near_duplicate_clusters(contents, hashes, thumbnails, bits, _always)
    assert _groups(found) == _groups(_brute_force(unpacked, bits))


def _brute_force(unpacked: np.ndarray, bits: int) -> np.ndarray:
    distances = (unpacked[:, None] != unpacked[None]).sum(axis=2)
    numbers = np.arange(len(unpacked))
    while True:
        smallest = np.where(distances <= bits, numbers[None], len(numbers)).min(axis=1)
        if (smallest == numbers).all():
            return numbers
        numbers = smallest


def test_long_runs_are_linked_exactly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.indexing.near_duplicates._LONG_RUN", 3)
    test_all_pairs_within_the_distance_are_linked_exactly(6)


def test_many_pictures_alike_take_no_time() -> None:
    count = 20_000
    hashes = np.tile(np.arange(32, dtype=np.uint8), (count, 1))
    thumbnails = np.random.default_rng(0).integers(100, 110, (count, 192), dtype=np.uint8)
    contents = np.array([f"{n:064x}" for n in range(count)])
    started = time.perf_counter()
    assert len(_groups(near_duplicate_clusters(contents, hashes, thumbnails, BITS, _always))) == 1
    # All pairs would be 200 million, some minutes.
    assert time.perf_counter() - started < 20


def test_one_picture_is_a_cluster() -> None:
    hashes, thumbnails = _hashes([_landscape(0)])
    alone = near_duplicate_clusters(np.array(["a"]), hashes, thumbnails, BITS, _always)
    assert alone.tolist() == [0]
