"""Synthetic images for the rare classes: how many, of which parents, and the making of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.balancing.augment import Augmenter
from pipeline.data.shards.shards import ImageSet, Pixels, ShardWriter, open_once
from pipeline.parallel import map_chunks
from pipeline.params.choices.transforms import Policy

Counts = npt.NDArray[np.int64]


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
        if label in self.per_class:
            return Augmenter(self.per_class[label], shape, f"balance.per_class.{label}")
        return Augmenter(self.default, shape, "balance.policy")


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

    All choices depend on the images' content alone: not on their order, names or number of
    processes.

    Args:
        train: the training originals.
        copies_per_class: see `plan_copies`.
        seed: of the whole set.

    Returns:
        The copies in the order of their parents, then by number.
    """
    copies = []
    for label, total in enumerate(copies_per_class):
        rows = np.flatnonzero(train.labels == label)
        if not total:
            continue
        # By hash: who gets the odd copy, and whose neighbour is whose partner, is by chance.
        rows = rows[np.argsort([_digest(seed, train.ids[row], 0) for row in rows], kind="stable")]
        each, odd = divmod(int(total), len(rows))
        for position, row in enumerate(rows):
            for number in range(1, each + (position < odd) + 1):
                digest = _digest(seed, train.ids[row], number)
                step = 1 + int.from_bytes(digest[:8]) % max(len(rows) - 1, 1)
                partner = rows[(position + step) % len(rows)]
                copies.append(Copy(int(row), number, int(partner), int.from_bytes(digest[8:12])))
    return sorted(copies)


def _digest(seed: int, content_hash: str, number: int) -> bytes:
    return hashlib.sha256(f"{seed}:{content_hash}:{number}".encode()).digest()


def copy_id(parent_id: str, number: int) -> str:
    """Return the id of a synthetic image."""
    return hashlib.sha256(f"{parent_id}:{number}".encode()).hexdigest()


def write_balanced(
    train_folder: Path,
    copies: Sequence[Copy],
    policies: Policies,
    folder: Path,
    workers: int | None = None,
) -> None:
    """Make the copies and write them as shards to `folder`; originals stay where they are.

    Args:
        train_folder: shards of the training originals.
        copies: see `spread_copies`.
        policies: how copies differ from their parents.
        folder: holds no shards yet.
        workers: processes, None for all cores; the shards are the same whatever it is.

    Raises:
        PipelineError: a policy does not suit the images.
    """
    train = ImageSet.open(train_folder)
    with ShardWriter(folder, train.info, train.info.rows_per_shard) as writer:
        pieces = map_chunks(
            partial(_make_copies, train_folder=train_folder, policies=policies),
            copies,
            chunk=train.info.rows_per_batch,
            label="balance",
            workers=workers,
        )
        start = 0
        for images in pieces:
            rows = copies[start : start + len(images)]
            start += len(images)
            parents = [train.ids[copy.parent] for copy in rows]
            writer.write(
                images,
                [int(train.labels[copy.parent]) for copy in rows],
                [copy_id(train.ids[copy.parent], copy.number) for copy in rows],
                parents,
                [train.paths[copy.parent] for copy in rows],
            )


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
