"""Pictures that show the same thing: perceptual hashes, and the clusters of near ones.

Measured on handwritten digits (8 px), CIFAR-10 (32 px) and photographs of hands (100 px): at 20
of 256 bits every pair of different pictures is kept apart and every pair found in CIFAR-10 is the
same photograph in another crop or colouring. A JPEG of quality 60 is found for 99 % of the CIFAR
images and all photographs, a copy of half the size for 95 % and all. Below about 16 px JPEG noise
is as large as the differences between pictures, and so it is in pictures without any detail;
there only nearly identical copies are found.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BYTES = 32
THUMBNAIL_SHAPE = (8, 8, 3)

_GREY_SIDE = 32  # px
_FREQUENCIES = 16
# Root mean square difference of two thumbnails, in grey levels 0-255. The hash sees only shape:
# a red and a blue sign are alike to it. Recoloured copies in CIFAR-10 stay below 44.
_SAME_COLOURS = 48.0
_FLAT_RANGE = 2  # grey levels; a picture of one colour has no shape to compare
_LONG_RUN = 1000

Bytes2d = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def _cosines() -> npt.NDArray[np.float64]:
    """Return the DCT-II basis, 16 x 32, rounded to integers.

    Products and sums of integers below 2^53 are exact in any order, so that the hash is the same
    on every machine, whatever its linear algebra library.
    """
    positions = np.arange(_GREY_SIDE)
    frequencies = np.arange(_FREQUENCIES)[:, None]
    angles = np.pi * (2 * positions + 1) * frequencies / (2 * _GREY_SIDE)
    return np.round(np.cos(angles) * 2**12)


_COSINES = _cosines()


def perceptual_hash(picture: Image.Image) -> bytes:
    """Return 256 bits: the 16 x 16 lowest DCT frequencies of the picture against their median.

    Args:
        picture: mode RGB or L, 8 bits, any size.
    """
    # The triangle filter of Pillow averages when it shrinks and does not make blocks when it
    # enlarges; with box averages copies at another size are missed.
    grey = picture.convert("L").resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.BILINEAR)
    frequencies = _COSINES @ np.asarray(grey, np.float64) @ _COSINES.T
    # The lower of the two middle ones, which leaves the same above it, for a sixth of the time.
    median = np.sort(frequencies, axis=None)[frequencies.size // 2 - 1]
    return np.packbits(frequencies > median).tobytes()


def thumbnail(picture: Image.Image) -> bytes:
    """Return the picture at 8 x 8 px RGB, 192 bytes."""
    height, width, _ = THUMBNAIL_SHAPE
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return small.tobytes()


def near_duplicate_clusters(
    contents: npt.NDArray[np.str_], hashes: Bytes2d, thumbnails: Bytes2d, bits: int
) -> Indices:
    """Cluster the pictures that are linked by nearness, exactly, over all pairs.

    Two pictures are linked when their content is identical, or when their hashes differ in at
    most `bits` bits and their thumbnails have the same colours. Pictures of one colour are linked
    by content alone.

    Args:
        contents: n content hashes, at least one.
        hashes: n x 32, from `perceptual_hash`.
        thumbnails: n x 192, from `thumbnail`.
        bits: Hamming distance, of 256.

    Returns:
        The cluster number of each picture, n.
    """
    count = len(contents)
    links = [_equal_neighbours(contents)]
    ranges = np.ptp(thumbnails.reshape(count, -1, THUMBNAIL_SHAPE[-1]), axis=1)
    shaped = np.flatnonzero((ranges > _FLAT_RANGE).any(axis=1))
    looks = np.hstack([hashes, thumbnails])[shaped].view(f"V{HASH_BYTES + thumbnails.shape[1]}")
    same = _equal_neighbours(looks[:, 0])
    links.append(shaped[same])
    # One of each look is compared; the links above tie the rest to it.
    distinct = np.delete(shaped, same[1])
    links += [
        distinct[pairs] for pairs in _near_pairs(hashes[distinct], thumbnails[distinct], bits)
    ]
    first, second = np.hstack(links)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    clusters: Indices = connected_components(graph, directed=False)[1].astype(np.int64)
    return clusters


def _equal_neighbours(values: npt.NDArray[np.generic]) -> Indices:
    """Return 2 x m indices that chain all equal values; each index is second at most once."""
    order = np.argsort(values, kind="stable")
    equal = values[order[1:]] == values[order[:-1]]
    return np.stack([order[:-1][equal], order[1:][equal]])


def _near_pairs(hashes: Bytes2d, thumbnails: Bytes2d, bits: int) -> list[Indices]:
    """Return 2 x m index pairs; two pictures that are near are linked directly or by a chain.

    Of two hashes that differ in `bits` bits, cut into `bits` + 1 chunks, one chunk is equal: only
    hashes that share a chunk are compared.
    """
    chunks = max(bits + 1, 4)  # of 64 bits at most
    unpacked = np.unpackbits(hashes, axis=1)
    comparison = _Comparison(hashes, thumbnails, bits)
    links: list[Indices] = []
    for chunk in range(chunks):
        # Every n-th bit: neighbouring frequencies are much alike.
        packed = np.packbits(unpacked[:, chunk::chunks], axis=1)
        padded = np.zeros((len(packed), 8), np.uint8)
        padded[:, : packed.shape[1]] = packed
        keys = padded.view(np.uint64)[:, 0]
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0]) if len(order) else order
        lengths = np.diff(np.r_[starts, len(order)])
        long = lengths > _LONG_RUN
        for start, length in zip(starts[long], lengths[long], strict=True):
            links += _grow(order[start : start + length], comparison)
        remaining = np.repeat(np.where(long, 0, lengths), lengths) - (
            np.arange(len(order)) - np.repeat(starts, lengths)
        )
        links += _pairs_within_runs(order, remaining, comparison)
    return links


class _Comparison:
    """Which of many pairs are near."""

    def __init__(self, hashes: Bytes2d, thumbnails: Bytes2d, bits: int) -> None:
        self._words = np.ascontiguousarray(hashes.view(np.uint64).T)  # 4 x n
        self._thumbnails = thumbnails
        self._bits = bits

    def near(self, first: Indices, second: Indices) -> npt.NDArray[np.bool_]:
        """Compare first[i] with second[i]."""
        # Up to 128 bits fit the byte that bitwise_count returns, 256 do not.
        halves = [
            np.bitwise_count(self._words[i][first] ^ self._words[i][second])
            + np.bitwise_count(self._words[i + 1][first] ^ self._words[i + 1][second])
            for i in (0, 2)
        ]
        close: npt.NDArray[np.bool_] = halves[0].astype(np.int16) + halves[1] <= self._bits
        candidates = np.flatnonzero(close)
        a = self._thumbnails[first[candidates]].astype(np.float32)
        b = self._thumbnails[second[candidates]].astype(np.float32)
        close[candidates] = np.mean((a - b) ** 2, axis=1) <= _SAME_COLOURS**2
        return close


def _pairs_within_runs(
    order: Indices, remaining: Indices, comparison: _Comparison
) -> list[Indices]:
    """Compare each position with each later one of its run; `remaining` counts itself too."""
    links = []
    positions = np.flatnonzero(remaining > 1)
    step = 1
    while len(positions):
        first, second = order[positions], order[positions + step]
        near = comparison.near(first, second)
        links.append(np.stack([first[near], second[near]]))
        step += 1
        positions = positions[remaining[positions] > step]
    return links


def _grow(members: Indices, comparison: _Comparison) -> list[Indices]:
    """Link the near ones of a long run, such as the frames of one film.

    A picture that is linked is not compared with those it is linked to already: a thousand
    frames alike cost a thousand comparisons, not half a million.
    """
    links = []
    rest = members
    while len(rest):
        reached, rest = [rest[0]], rest[1:]
        while reached and len(rest):
            pivot = np.full(len(rest), reached.pop())
            near = comparison.near(pivot, rest)
            links.append(np.stack([pivot[near], rest[near]]))
            reached.extend(rest[near])
            rest = rest[~near]
    return links
