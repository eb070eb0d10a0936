"""Whether mirrored images look like the others, so that a training may mirror them.

A linear classifier of small grey images learns where things lie. If it recognises mirrored images
of classes as well as the others, left and right do not matter; of digits it recognises few.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold

_MOST_IMAGES = 4000
_MOST_PER_CLASS = 200
_SIDE = 14  # px
_FOLDS = 5
# Standard errors that a loss must exceed.
_CLEAR = 2.0


@dataclass(frozen=True)
class Mirrored:
    """What became of the comparison.

    Attributes:
        accuracy: of images as they are, each class counting alike, by cross-validation.
        mirrored: of the same images, mirrored.
        alike: whether no loss is seen beyond chance.
    """

    accuracy: float
    mirrored: float
    alike: bool

    def __str__(self) -> str:
        like = "are like" if self.alike else "are unlike"
        return (
            f"mirrored images {like} the others (a linear classifier is right on"
            f" {self.mirrored:.0%} of them, and on {self.accuracy:.0%} of the others)"
        )


def chosen_rows(labels: npt.NDArray[np.integer], seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw the rows to compare, in order: few of each class are enough."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    most = max(_FOLDS, min(_MOST_PER_CLASS, _MOST_IMAGES // len(classes)))
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:most] for label in classes]
    return np.sort(np.concatenate(drawn))


def compare_mirrored(
    images: npt.NDArray[np.unsignedinteger], labels: npt.NDArray[np.integer]
) -> Mirrored:
    """Compare images with what they are when left and right are swapped.

    Args:
        images: n x height x width x channels.
        labels: n; classes of fewer images than folds are left out.
    """
    counts = np.bincount(labels)
    kept = counts[labels] >= _FOLDS
    images, labels = images[kept], labels[kept]
    if len(np.unique(labels)) < 2:
        return Mirrored(1.0, 1.0, alike=True)
    pixels, turned = _small(images), _small(images[:, :, ::-1])
    right = np.zeros((2, len(labels)))
    for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(pixels, labels):
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        model.fit(pixels[train], labels[train])
        for row, shown in enumerate((pixels, turned)):
            right[row, test] = model.predict(shown[test]) == labels[test]
    weights = 1 / np.bincount(labels)[labels]
    weights /= weights.sum()
    accuracy, mirrored = (right * weights).sum(axis=1)
    difference = right[0] - right[1]
    error = np.sqrt((weights**2 * (difference - (accuracy - mirrored)) ** 2).sum())
    return Mirrored(
        float(accuracy), float(mirrored), alike=bool(accuracy - mirrored <= _CLEAR * error)
    )


def _small(images: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.float32]:
    """Return grey levels of some `_SIDE` x `_SIDE` blocks, each their mean, one row per image."""
    grey = images.mean(axis=3, dtype=np.float32)
    for axis in (1, 2):
        edges = np.linspace(0, grey.shape[axis], min(_SIDE, grey.shape[axis]) + 1).astype(int)
        sums = np.add.reduceat(grey, edges[:-1], axis=axis)
        sizes = np.diff(edges).astype(np.float32)
        grey = sums / (sizes[:, None] if axis == 1 else sizes)
    flat = grey.reshape(len(grey), -1)
    spread = flat.std(axis=1, keepdims=True)
    rows: npt.NDArray[np.float32] = (flat - flat.mean(axis=1, keepdims=True)) / (spread + 1e-6)
    return rows
