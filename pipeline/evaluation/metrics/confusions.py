"""Which class is taken for which, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.metrics.intervals import wilson
from pipeline.evaluation.metrics.scores import Answers, confusion_matrix


def confusions(given: Answers, classes: Sequence[str]) -> list[dict[str, Any]]:
    """List the cells of the confusion matrix that are not empty: mistakes first, then by images.

    Returns:
        {"true": name, "predicted": name, "images": count, "share": {"value": of the true class's
        images, "ci95": Wilson's interval}} each.
    """
    matrix = confusion_matrix(given)
    support = given.support
    rows, columns = np.nonzero(matrix)
    counts = matrix[rows, columns]
    order = np.lexsort((columns, rows, -counts, rows == columns))
    return [
        {
            "true": classes[rows[i]],
            "predicted": classes[columns[i]],
            "images": int(counts[i]),
            "share": {
                "value": float(counts[i] / support[rows[i]]),
                "ci95": wilson(counts[i], support[rows[i]]).tolist(),
            },
        }
        for i in order
    ]
