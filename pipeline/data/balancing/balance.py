"""Synthetic images for the rare classes: how many, of which parents, and the making of them."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.balancing import augment
from pipeline.data.balancing.augment import Augmenter
from pipeline.data.reuse import Rows, images_of, reuse_key
from pipeline.data.shards import shards
from pipeline.data.shards.shards import ImageSet, Pixels, SetInfo, ShardWriter, open_once
from pipeline.parallel import map_chunks
from pipeline.params.choices.transforms import Policy, Superimpose

Counts = npt.NDArray[np.int64]

# What the hash of an image's id and a copy's number decides.
_DRAW = np.dtype([("place", ">u8"), ("seed", ">u4"), ("rest", "V20")])


class Copy(NamedTuple):
    """One synthetic image, before it is made.

    Attributes:
        parent: row of the training image that it is made from.
        number: 1 for the parent's first copy.
        partner: row of another image of the class, to superimpose.
        seed: of everything random in it.
    """

    parent: int
    number: int
    partner: int
    seed: int


@dataclass(frozen=True)
class Policies:
    """The default policy, and the classes that have their own."""

    default: Policy
    per_class: Mapping[str, Policy]

    def augmenter(self, label: str, shape: tuple[int, int, int]) -> Augmenter:
        """Build the policy of one class.

        Raises:
            PipelineError: see `Augmenter`.
        """
        own = label in self.per_class
        return Augmenter(
            self._of(label), shape, f"balance.per_class.{label}" if own else "balance.policy"
        )

    def digest(self, label: str) -> bytes:
        """Hash the policy of one class."""
        described = [[item.key, item.model_dump(mode="json")] for item in self._of(label)]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).digest()

    def takes_partners(self, label: str) -> bool:
        """Whether the policy of one class blends other images in."""
        return any(isinstance(item, Superimpose) for item in self._of(label))

    def _of(self, label: str) -> Policy:
        return self.per_class.get(label, self.default)


def class_targets(
    counts: Counts,
    target: Literal["max", "median", "ratio", "effective"],
    ratio: float,
    beta: float,
) -> Counts:
    """Return how many images each class should have; never less than it has.

    - max: as many as the largest class.
    - median: at least as many as the median class.
    - ratio: at least `ratio` times the largest class.
    - effective: n samples of a class are worth E(n) = (1 - beta^n) / (1 - beta), and the
      class-balanced loss weighs each by 1 / E(n) (Cui et al., Class-Balanced Loss Based on
      Effective Number of Samples, CVPR 2019, eq. 2 and 4). A class's total weight in that loss
      is n / E(n); here images stand in for weight, so that totals are in proportion to n / E(n)
      and the largest class stays as it is: n E(max) / E(n). With beta = 0 nothing is added;
      towards 1 it becomes 'max'.

    Args:
        counts: images per class; a class without images stays empty.
        target: one of the above.
        ratio: for 'ratio', 0 to 1.
        beta: for 'effective', 0 <= beta < 1.
    """
    largest = counts.max(initial=0)
    if target == "effective":
        worth = 1 - beta ** np.maximum(counts, 1)  # the denominator cancels
        wanted = counts * worth.max(initial=0) / worth
    elif target == "median":
        wanted = np.full(len(counts), np.median(counts[counts > 0]) if largest else 0)
    else:
        wanted = np.full(len(counts), largest * (ratio if target == "ratio" else 1.0))
    # A hair below, so that a target of 0.3 x 10 is 3 and not 4.
    totals = np.ceil(wanted - 1e-9).astype(np.int64)
    targets: Counts = np.where(counts > 0, np.maximum(totals, counts), 0)
    return targets


def plan_copies(counts: Counts, targets: Counts, max_copies_per_image: int) -> Counts:
    """Return how many copies each class gets: up to its target, or to the cap per image."""
    copies: Counts = np.minimum(targets - counts, counts * max_copies_per_image)
    return copies


def spread_copies(train: ImageSet, copies_per_class: Counts, seed: int) -> list[Copy]:
    """Share each class's copies among its images, whose counts then differ by one at most.

    Everything follows from the hashes D(n) = sha256("seed:id:n") of each image's id, and not from
    the order, the names or the number of processes. The D(0) of a class form a ring, in rising
    order. The first images on it get the odd copies. The partner of an image's copy n is the image
    whose D(0) is the next on the ring from the first 8 bytes of D(n) on, the image itself passed
    over; the next 4 bytes are the copy's seed. So an image that is added becomes the partner of
    few copies, and changes nothing about the others.

    Args:
        train: the training originals.
        copies_per_class: see `plan_copies`.
        seed: of the whole set.

    Returns:
        The copies in the order of their parents, then by number.
    """
    ids = np.array(train.ids, object)
    copies: list[Copy] = []
    for label in np.flatnonzero(copies_per_class):
        rows = np.flatnonzero(train.labels == label)
        ring = _draws(seed, ids[rows], np.zeros(len(rows), np.int64))
        order = np.argsort(ring["place"], kind="stable")
        rows, places = rows[order], ring["place"][order]
        each, odd = divmod(int(copies_per_class[label]), len(rows))
        made = np.where(np.arange(len(rows)) < odd, each + 1, each)
        own = np.repeat(np.arange(len(rows)), made)
        numbers = np.arange(len(own)) - np.repeat(np.cumsum(made) - made, made) + 1
        drawn = _draws(seed, ids[rows[own]], numbers)
        partners = np.searchsorted(places, drawn["place"]) % len(rows)
        partners = np.where(partners == own, partners + 1, partners) % len(rows)
        columns = (rows[own], numbers, rows[partners], drawn["seed"])
        copies += map(Copy._make, zip(*(column.tolist() for column in columns), strict=True))
    return sorted(copies)


def _draws(seed: int, ids: npt.NDArray[Any], numbers: Counts) -> npt.NDArray[Any]:
    """Return the first 12 bytes of the hash of each id with its number, as place and seed."""
    digests = b"".join(
        hashlib.sha256(f"{seed}:{name}:{number}".encode()).digest()
        for name, number in zip(ids.tolist(), numbers.tolist(), strict=True)
    )
    return np.frombuffer(digests, _DRAW)


def copy_ids(train: ImageSet, copies: Sequence[Copy], policies: Policies) -> list[str]:
    """Return the ids of synthetic images: hashes of all that their pixels depend on but the code.

    These are the parent, by its id and its pixels; the number, the seed and the policy; and the
    pixels of the partner where the policy has one.
    """
    digests = [policies.digest(name) for name in train.info.classes]
    paired = [policies.takes_partners(name) for name in train.info.classes]
    labels, ids = train.labels.tolist(), train.ids
    shown = {copy.parent for copy in copies}
    shown |= {copy.partner for copy in copies if paired[labels[copy.parent]]}
    pixels = _pixel_digests(train, np.array(sorted(shown), np.int64))
    return [
        hashlib.sha256(
            b"%s %s %d %d %s %s"
            % (
                ids[parent].encode(),
                pixels[parent],
                number,
                seed,
                digests[labels[parent]],
                pixels[partner] if paired[labels[parent]] else b"",
            )
        ).hexdigest()
        for parent, number, partner, seed in copies
    ]


def _pixel_digests(images: ImageSet, rows: Counts) -> dict[int, bytes]:
    """Hash the pixels of each of the rows."""
    digests: dict[int, bytes] = {}
    size = images.info.rows_per_batch
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        for row, image in zip(piece.tolist(), images.gather(piece), strict=True):
            digests[row] = hashlib.sha256(image).digest()
    return digests


def balance_key(info: SetInfo) -> str:
    """Name what the pixels of synthetic images depend on besides their ids."""
    libraries = ("albumentations", "albucore", "opencv-python-headless", "numpy")
    return reuse_key(info, (augment, shards, sys.modules[__name__]), libraries)


def write_balanced(
    train_folder: Path,
    copies: Sequence[Copy],
    policies: Policies,
    folder: Path,
    workers: int | None = None,
    *,
    kept: ImageSet | None = None,
) -> None:
    """Make the copies and write them as shards to `folder`; originals stay where they are.

    Args:
        train_folder: shards of the training originals.
        copies: see `spread_copies`.
        policies: how copies differ from their parents.
        folder: holds no shards yet.
        workers: processes, None for all cores; the shards are the same whatever it is.
        kept: images that were made before under the same `balance_key`; they are not made again.

    Raises:
        PipelineError: a policy does not suit the images.
    """
    train = ImageSet.open(train_folder)
    ids = copy_ids(train, copies, policies)

    def make(new: Rows) -> Iterator[Pixels]:
        return map_chunks(
            partial(_make_copies, train_folder=train_folder, policies=policies),
            [copies[row] for row in new.tolist()],
            chunk=train.info.rows_per_batch,
            label="balance",
            workers=workers,
        )

    labels = train.labels.tolist()
    with ShardWriter(folder, train.info, train.info.rows_per_shard) as writer:
        start = 0
        for images in images_of(ids, kept, make, train.info.rows_per_batch):
            rows = copies[start : start + len(images)]
            writer.write(
                images,
                [labels[copy.parent] for copy in rows],
                ids[start : start + len(images)],
                [train.ids[copy.parent] for copy in rows],
                [train.paths[copy.parent] for copy in rows],
            )
            start += len(images)


def _make_copies(copies: Sequence[Copy], train_folder: Path, policies: Policies) -> Pixels:
    train = open_once(train_folder)
    classes, shape = train.info.classes, train.info.shape
    labels = train.labels[[copy.parent for copy in copies]]
    augmenters = {label: policies.augmenter(classes[label], shape) for label in np.unique(labels)}
    # One thread here: the processes share the cores already. Last, as albumentations sets it too.
    cv2.setNumThreads(1)
    parents = train.gather(np.array([copy.parent for copy in copies]))
    partners = train.gather(np.array([copy.partner for copy in copies]))
    return np.stack(
        [
            augmenters[label](image, partner, copy.seed)
            for copy, label, image, partner in zip(copies, labels, parents, partners, strict=True)
        ]
    )
