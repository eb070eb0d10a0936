"""Images on which two models disagree about being right."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.judging.findings import Disagreement
from pipeline.evaluation.metrics.scores import Floats


def find_disagreements(
    labels: npt.NDArray[np.integer],
    first: Floats,
    second: Floats,
    classes: Sequence[str],
    paths: Sequence[str],
) -> list[Disagreement]:
    """List the images that only one model has right, the most confident wrong answers first.

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
