"""Pictures that show the same thing: perceptual hashes, and the clusters of near ones.

The hash finds candidates, `same_picture` compares their pixels. At 20 of 256 bits, and after that,
no two are one of 3,000 upright strokes (28 px), 1,500 drawings of one template (128 px), 1,500
pictures like X-rays (160 px), handwritten digits (8 px) and photographs of hands (100 px). Of
CIFAR-10 (32 px) only copies in all but the colouring are: another crop or contrast is another
picture. A JPEG of quality 60 is found for 99 % of the CIFAR images, 96 % of the drawings, 76 % of
the strokes and all X-rays and photographs; a copy of half the size (Lanczos) for 98 % of the CIFAR
images, no stroke (14 px) and all others. Below about 16 px JPEG noise is as large as the
differences between pictures, and so it is in pictures without any detail; there only nearly
identical copies are found. An enlarged copy of a thin drawing, or a small copy that leaves pixels
out, is mostly missed.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

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
    contents: npt.NDArray[np.str_] | npt.NDArray[np.bytes_],
    hashes: Bytes2d,
    thumbnails: Bytes2d,
    bits: int,
    same: Callable[[int, int], bool],
) -> Indices:
    """Cluster the pictures that are linked by nearness, exactly, over all pairs.

    Two pictures are linked when their content is identical; or when their hashes differ in at
    most `bits` bits, their thumbnails have the same colours, and `same` says so. Pictures of one
    colour are linked by content alone.

    Args:
        contents: n content hashes, at least one.
        hashes: n x 32, from `perceptual_hash`.
        thumbnails: n x 192, from `thumbnail`.
        bits: Hamming distance, of 256.
        same: whether two pictures show one thing, by their numbers. It costs more than all else:
            it is not asked of pictures that are linked already.

    Returns:
        The cluster number of each picture, n.
    """
    _, first, numbers = np.unique(contents, return_index=True, return_inverse=True)
    pixels = thumbnails[first].reshape(len(first), -1, THUMBNAIL_SHAPE[-1])
    shaped = first[(np.ptp(pixels, axis=1) > _FLAT_RANGE).any(axis=1)]
    links = _Links(hashes, thumbnails, bits, same)
    _link_near(shaped, hashes, links, bits)
    clusters: Indices = np.unique(links.clusters[first], return_inverse=True)[1][numbers]
    return clusters


class _Links:
    """Which pictures are linked so far, and which of many pairs are.

    Attributes:
        clusters: the cluster number of each picture, n.
    """

    def __init__(
        self,
        hashes: Bytes2d,
        thumbnails: Bytes2d,
        bits: int,
        same: Callable[[int, int], bool],
    ) -> None:
        self._words = np.ascontiguousarray(hashes.view(np.uint64).T)  # 4 x n
        self._thumbnails = thumbnails
        self._bits = bits
        self._same = same
        self._different: set[tuple[int, int]] = set()
        self.clusters: Indices = np.arange(len(hashes))
        self._members: dict[int, list[int]] = {}

    def link(self, first: Indices, second: Indices) -> npt.NDArray[np.bool_]:
        """Link first[i] with second[i] where they are near; return which are linked now."""
        near = self._near(first, second)
        candidates = np.flatnonzero(near)
        linked = self.clusters[first[candidates]] == self.clusters[second[candidates]]
        for pair in candidates[~linked].tolist():
            near[pair] = self._compare(int(first[pair]), int(second[pair]))
        return near

    def _near(self, first: Indices, second: Indices) -> npt.NDArray[np.bool_]:
        # 64 bits at a time: of most pairs the first of them are too many already.
        close = np.zeros(len(first), bool)
        candidates, distance = np.arange(len(first)), np.zeros(len(first), np.int16)
        for word in self._words:
            distance += np.bitwise_count(word[first[candidates]] ^ word[second[candidates]])
            near = distance <= self._bits
            candidates, distance = candidates[near], distance[near]
        a = self._thumbnails[first[candidates]].astype(np.float32)
        b = self._thumbnails[second[candidates]].astype(np.float32)
        close[candidates] = np.mean((a - b) ** 2, axis=1) <= _SAME_COLOURS**2
        return close

    def _compare(self, first: int, second: int) -> bool:
        one, other = self.clusters[first].item(), self.clusters[second].item()
        if one == other:
            return True
        pair = (min(first, second), max(first, second))
        if pair in self._different:
            return False
        if not self._same(*pair):
            self._different.add(pair)
            return False
        joining = [self._members.pop(number, [number]) for number in (one, other)]
        smaller, larger = sorted(joining, key=len)
        number = self.clusters[larger[0]].item()
        self.clusters[smaller] = number
        self._members[number] = larger + smaller
        return True


def _link_near(shaped: Indices, hashes: Bytes2d, links: _Links, bits: int) -> None:
    """Link all pictures that are near, directly or by a chain.

    Of two hashes that differ in `bits` bits, cut into `bits` + 1 chunks, one chunk is equal: only
    hashes that share a chunk are compared.

    Args:
        shaped: numbers of the pictures to compare.
        hashes: of all pictures, n x 32.
        links: made here.
        bits: Hamming distance.
    """
    chunks = max(bits + 1, 4)  # of 64 bits at most
    unpacked = np.unpackbits(hashes[shaped], axis=1)
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
        members = shaped[order]
        for start, length in zip(starts[long], lengths[long], strict=True):
            _link_long_run(members[start : start + length], links)
        remaining = np.repeat(np.where(long, 0, lengths), lengths) - (
            np.arange(len(order)) - np.repeat(starts, lengths)
        )
        _link_short_runs(members, remaining, links)


def _link_short_runs(members: Indices, remaining: Indices, links: _Links) -> None:
    """Compare each member with each later one of its run; `remaining` counts itself too."""
    positions = np.flatnonzero(remaining > 1)
    step = 1
    while len(positions):
        links.link(members[positions], members[positions + step])
        step += 1
        positions = positions[remaining[positions] > step]


def _link_long_run(members: Indices, links: _Links) -> None:
    """Link the near ones of a long run, such as the frames of one film.

    A picture that is linked is not compared with those it is linked to already: a thousand
    frames alike cost a thousand comparisons, not half a million.
    """
    rest = members
    while len(rest):
        reached, rest = [rest[0]], rest[1:]
        while reached and len(rest):
            linked = links.link(np.full(len(rest), reached.pop()), rest)
            reached.extend(rest[linked])
            rest = rest[~linked]
