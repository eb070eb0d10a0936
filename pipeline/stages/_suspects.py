"""Labels that look wrong to the final model: listed and drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.metrics.suspicious import find_suspects, share_of_wrong_labels
from pipeline.evaluation.plots._style import save
from pipeline.evaluation.plots.sheets import Mistake, draw_suspects
from pipeline.files import write_json
from pipeline.stages._paths import PICTURES, REPORTS

_IMAGES_SHOWN = 24


def list_suspects(
    sets: Mapping[str, ImageSet], given: Mapping[str, Predictions], most: int
) -> None:
    """Write and draw the images of packed/val and packed/test whose label looks wrong.

    The model learned from neither; validation images chose its epoch, views and temperature.
    Training images are left out: a network that has learned their labels finds nothing wrong with
    them.

    Args:
        sets: the images of each split.
        given: what the model says of them.
        most: how many are listed.
    """
    labels = np.concatenate([given[split].labels for split in sets])
    posteriors = np.concatenate([given[split].probabilities for split in sets])
    places = [(split, row) for split, images in sets.items() for row in range(len(images))]
    classes = given["test"].classes
    found = find_suspects(labels, posteriors)
    listed: list[dict[str, Any]] = []
    shown: list[Mistake] = []
    for at, suggested, score in zip(found.rows[:most], found.suggested, found.score, strict=False):
        split, row = places[at]
        entry = {
            "path": given[split].paths[row],
            "split": split,
            "given": classes[labels[at]],
            "suggested": classes[suggested],
            "probability": float(posteriors[at, suggested]),
            "score": float(score),
        }
        listed.append(entry)
        if len(shown) < _IMAGES_SHOWN:
            image = sets[split].gather(np.array([row]))[0]
            words = (entry[key] for key in ("path", "given", "suggested", "probability"))
            shown.append(Mistake(image, *words))
    support = np.bincount(labels, minlength=len(classes))
    write_json(
        REPORTS / "suspicious.json",
        {
            "images": {split: len(images) for split, images in sets.items()},
            "suspicious": len(found.rows),
            "share_of_wrong_labels": share_of_wrong_labels(found.joint, support),
            "listed": listed,
        },
    )
    save(draw_suspects(shown, len(found.rows)), PICTURES / "evaluate" / "suspicious.png")
