"""Images on which two models disagree about being right."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.definitions import Floats


@dataclass(frozen=True)
class Disagreement:
    """An image that one of two models has right, and the other wrong.

    Attributes:
        row: of the image.
        path: of its file.
        true: its class.
        first: what the first model says.
        first_probability: how sure it is, in [0, 1].
        second: what the second model says.
        second_probability: how sure it is, in [0, 1].
    """

    row: int
    path: str
    true: str
    first: str
    first_probability: float
    second: str
    second_probability: float

    @property
    def mended(self) -> bool:
        """Whether it is the second model that is right."""
        return self.second == self.true


def find_disagreements(
    labels: npt.NDArray[np.integer],
    first: Floats,
    second: Floats,
    classes: Sequence[str],
    paths: Sequence[str],
) -> list[Disagreement]:
    """List the flips from the first to the second model, those of whom the wrong one is surest.

    Args:
        labels: n class numbers.
        first: n x k posteriors.
        second: n x k posteriors.
        classes: k names.
        paths: n paths.
    """
    says = first.argmax(axis=1), second.argmax(axis=1)
    sure = first.max(axis=1), second.max(axis=1)
    right = says[0] == labels, says[1] == labels
    rows = np.flatnonzero(right[0] != right[1])
    wrong_sure = np.where(right[0], sure[1], sure[0])
    return [
        Disagreement(
            row=int(row),
            path=paths[row],
            true=classes[int(labels[row])],
            first=classes[says[0][row]],
            first_probability=float(sure[0][row]),
            second=classes[says[1][row]],
            second_probability=float(sure[1][row]),
        )
        for row in rows[np.argsort(-wrong_sure[rows], kind="stable")]
    ]


def disagreement_block(flips: Sequence[Disagreement], most: int) -> dict[str, Any]:
    """Return what a report holds of flips.

    Args:
        flips: from the champion to the candidate, in the order in which they matter.
        most: how many are listed of either kind.

    Returns:
        {"mended": images that only the second model has right, "spoiled": those that only the
        first has, "listed": the fields of each flip, spoiled ones first}.
    """
    mended = [flip for flip in flips if flip.mended]
    spoiled = [flip for flip in flips if not flip.mended]
    listed = [asdict(flip) for flip in (*spoiled[:most], *mended[:most])]
    return {"mended": len(mended), "spoiled": len(spoiled), "listed": listed}
