"""The map of the latent space, as a picture and as a page."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.latent.embeddings import Embeddings
from pipeline.evaluation.latent.latent_map import project
from pipeline.evaluation.map import (
    MapPoints,
    make_thumbnails,
    render_map,
    room_for_thumbnails,
    spread,
)
from pipeline.evaluation.metrics.predictions import read_answers
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.map import draw_map
from pipeline.files import atomic_path
from pipeline.params import Embed
from pipeline.stages._paths import MAP, PACKED, PICTURES, PREDICTIONS

# With more, a browser without a graphics card shows less than 30 frames a second.
_MOST_POINTS = 50_000


def write_map(embedded: Mapping[str, Embeddings], how: Embed) -> None:
    """Write reports/map.html and the picture of the same points.

    Args:
        embedded: of train and test.
        how: of params.

    Raises:
        PipelineError: the final model's predictions are missing, or are about other images.
    """
    names = ["test"] if how.map == "test" else ["train", "test"]
    sets = [embedded[name] for name in names]
    answers, probabilities = zip(*(_answers(name, embedded[name]) for name in names), strict=True)
    labels = np.concatenate([one.labels for one in sets])
    order = spread(labels, how.seed)
    rows = np.sort(order[:_MOST_POINTS])
    vectors = np.concatenate([one.vectors for one in sets])[rows]
    places, method = project(vectors, how.seed)
    paths = [path for one in sets for path in one.paths]
    points = MapPoints(
        classes=sets[0].classes,
        paths=[paths[row] for row in rows],
        labels=labels[rows],
        places=places,
        sets=names,
        of_set=np.repeat(np.arange(len(sets)), [len(one.ids) for one in sets])[rows],
        answers=np.concatenate(answers)[rows],
        probabilities=np.concatenate(probabilities)[rows],
    )
    which = "test" if how.map == "test" else "training and test"
    title = f"{len(rows)} {which} images by {method}, {vectors.shape[1]} dimensions"
    save(draw_map(places, points.labels, points.classes, title), PICTURES / "embed" / "map.png")

    images = ImageSet.open(*(PACKED / name for name in names))
    thumbnails = make_thumbnails(
        lambda numbers: images.gather(rows[numbers]),
        np.argsort(points.labels, kind="stable"),
        spread(points.labels, how.seed),
        room_for_thumbnails(points),
    )
    notes = [
        f"Placed by {method}, in the {vectors.shape[1]} dimensions below the head of the final"
        " model. Distances within a cluster mean something, those between clusters little.",
        "A dark edge marks a mistake. The colour and the marker are those of the label.",
    ]
    if how.map == "all":
        notes.append("Training images have no answers: the network was trained on their labels.")
    if len(rows) < len(labels):
        notes.append(f"Of {len(labels)} images these were drawn, of each class as many if it can.")
    if (drawn := int((thumbnails.numbers >= 0).sum())) < len(rows):
        notes.append(f"For {drawn} of the images there was room for a thumbnail.")
    with atomic_path(MAP) as temporary:
        page = render_map(points, thumbnails, f"Latent space: {title}", notes)
        temporary.write_text(page, encoding="utf-8")


def _answers(
    name: str, images: Embeddings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return what the final model answers for a set, and how sure; -1 for training images."""
    n = len(images.ids)
    if name != "test":
        return np.full(n, -1), np.zeros(n)
    path = PREDICTIONS / "final.parquet"
    found = read_answers(path)
    if found.ids != images.ids or found.classes != images.classes:
        raise PipelineError(
            f"{path} is about other images than {PACKED / name}; run dvc repro evaluate"
        )
    return found.predicted, found.probabilities
