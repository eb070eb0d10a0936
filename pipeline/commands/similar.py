"""`convoy similar`: the images of the data set that are nearest to given ones."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.commands._inputs import UnusableFiles, check_output, find_files, open_model
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.latent.approximate import search
from pipeline.evaluation.latent.embeddings import (
    SPLITS,
    Gallery,
    open_gallery,
    read_nearest_training,
    stamp,
)
from pipeline.evaluation.latent.search import Neighbours, Vectors, unit
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.latent import NEAREST_IN_A_ROW, Shown, draw_similar
from pipeline.evaluation.reports.words import cosine_text
from pipeline.files import as_text
from pipeline.parallel import usable_cores
from pipeline.progress import command_clock
from pipeline.stages._paths import EMBEDDINGS, PACKED, STATE
from pipeline.stages._stored import gather
from pipeline.vision.application.reading import embed_files
from pipeline.vision.inference.bundle import Bundle

_ROWS_DRAWN = 40  # of a sheet, all in all


@dataclass(frozen=True)
class _Answer:
    """What was found for one image.

    Attributes:
        path: of its file.
        content: sha256 of the file, hex.
        rows: k rows of the gallery, nearest first.
        cosines: k.
        training: the largest cosine to a training image.
        below: the share of test images that are less like any training image, in [0, 1].
    """

    path: Path
    content: str
    rows: list[int]
    cosines: list[float]
    training: float
    below: float


@command_clock("similar")
def run(
    paths: Sequence[Path], k: int, among: str, model: str, output: Path, *, as_json: bool
) -> None:
    """Print and draw the images nearest to each given one, by the cosine of latent vectors.

    A file that cannot be used is named on stderr; the others are answered.

    Args:
        paths: files, or folders that are searched for files.
        k: how many images are named for each.
        among: 'train' or 'all'.
        model: a bundle folder, an MLflow run id or a registry URI; that which made the embeddings.
        output: a .png file.
        as_json: print JSON.

    Raises:
        PipelineError: no such path, model or embeddings, those of another model, fewer than k
            images, no usable file, or an output that cannot be written.
    """
    check_output(output, (".png",))
    files = find_files(paths)
    bundle = open_model(model)
    gallery = open_gallery(EMBEDDINGS, SPLITS[:1] if among == "train" else SPLITS, bundle.digest)
    searched = len(gallery.vectors)
    if k > searched:
        raise PipelineError(f"-k is {k}, and {searched} images are searched; lower -k")
    sets = {split: ImageSet.open(PACKED / split) for split in dict.fromkeys(gallery.splits)}
    _check_images(gallery, sets)
    vectors, problems = embed_files(bundle, files, usable_cores())
    unusable = UnusableFiles(len(files))
    for problem in problems:
        unusable.add(problem)
    if not vectors:
        raise unusable.none_is("an image that can be searched for")
    queries = unit(np.stack(list(vectors.values())))
    answers = _answers(gallery, list(vectors), queries, k, among)
    if as_json:
        print(json.dumps([_as_json(gallery, one) for one in answers], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for one in answers for line in _lines(gallery, one)))
    _draw(bundle, gallery, sets, answers, output)


def _check_images(gallery: Gallery, sets: dict[str, ImageSet]) -> None:
    """Make sure that the packed images, which are drawn, are those that were embedded."""
    if gallery.rows.ids != [one for images in sets.values() for one in images.ids]:
        raise PipelineError(
            f"{PACKED} holds other images than {EMBEDDINGS}; run dvc repro to embed them"
        )


def _answers(
    gallery: Gallery, paths: Sequence[Path], queries: Vectors, k: int, among: str
) -> list[_Answer]:
    name = f"{among}-{stamp(EMBEDDINGS)}.faiss"
    found = search(gallery.vectors, queries, k, STATE / "search" / name)
    of_training = found if among == "train" else _nearest_training(gallery, queries)
    of_test = read_nearest_training(EMBEDDINGS)
    answers = []
    for i, path in enumerate(paths):
        training = float(of_training.similarity[i, 0])
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        below = float((of_test < training).mean()) if len(of_test) else 0.0
        rows, cosines = found.rows[i].tolist(), found.similarity[i].tolist()
        answers.append(_Answer(path, content, rows, cosines, training, below))
    return answers


def _nearest_training(gallery: Gallery, queries: Vectors) -> Neighbours:
    train = gallery.vectors[: gallery.splits.count("train")]
    return search(train, queries, 1, STATE / "search" / f"train-{stamp(EMBEDDINGS)}.faiss")


def _lines(gallery: Gallery, answer: _Answer) -> list[str]:
    """Format one answer: what is said of the image, and a line for each image near it."""
    lines = [
        f"{as_text(answer.path)}\tcosine {cosine_text(answer.training)} to the nearest training"
        f" image, higher than that of {100 * answer.below:.1f} % of the test images"
    ]
    for place, (row, cosine) in enumerate(zip(answer.rows, answer.cosines, strict=True), 1):
        rows = gallery.rows
        same = "\tthe same file" if rows.ids[row] == answer.content else ""
        label = rows.classes[rows.labels[row]]
        lines.append(
            f"{place}\t{cosine_text(cosine)}\t{label}\t{gallery.splits[row]}\t{rows.paths[row]}{same}"
        )
    return lines


def _as_json(gallery: Gallery, answer: _Answer) -> dict[str, object]:
    rows = gallery.rows
    return {
        "path": as_text(answer.path),
        "nearest_training": {"cosine": answer.training, "test_images_below": answer.below},
        "nearest": [
            {
                "path": rows.paths[row],
                "class": rows.classes[rows.labels[row]],
                "split": gallery.splits[row],
                "cosine": cosine,
                "same_file": rows.ids[row] == answer.content,
            }
            for row, cosine in zip(answer.rows, answer.cosines, strict=True)
        ],
    }


def _draw(
    bundle: Bundle,
    gallery: Gallery,
    sets: dict[str, ImageSet],
    answers: Sequence[_Answer],
    output: Path,
) -> None:
    drawn = []
    rows_of_each = min(-(-len(answers[0].rows) // NEAREST_IN_A_ROW), _ROWS_DRAWN)
    near_drawn = NEAREST_IN_A_ROW * rows_of_each
    for answer in answers[: _ROWS_DRAWN // rows_of_each]:
        image: npt.NDArray[np.generic] = preprocess_file(answer.path, bundle.preprocessing)
        query = Shown(
            image, "", as_text(answer.path), f"nearest in training {cosine_text(answer.training)}"
        )
        near = gather(sets, gallery, np.array(answer.rows[:near_drawn]))
        drawn.append(
            (
                query,
                [
                    Shown(
                        one,
                        gallery.rows.classes[gallery.rows.labels[row]],
                        gallery.rows.paths[row],
                        f"{gallery.splits[row]}, cosine {cosine_text(cosine)}",
                    )
                    for one, row, cosine in zip(near, answer.rows, answer.cosines, strict=False)
                ],
            )
        )
    more, fewer = len(answers) - len(drawn), len(answers[0].rows) > near_drawn
    heading = (
        "Framed: the given images, each before"
        + (f" the {near_drawn} of {len(answers[0].rows)} nearest" if fewer else " those nearest")
        + " to it"
        + (f"; {more} more are not drawn" if more else "")
    )
    save(draw_similar(drawn, heading), output)
