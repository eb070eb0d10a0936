"""What `embed` looks for in the latent space, and its sheets."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.latent import duplicates, outliers
from pipeline.evaluation.latent.duplicates import Duplicates, find_duplicates
from pipeline.evaluation.latent.embeddings import Gallery
from pipeline.evaluation.latent.findings import (
    place_of,
    report_duplicates,
    report_outliers,
    report_unlike,
)
from pipeline.evaluation.latent.outliers import find_outliers, unlike_training
from pipeline.evaluation.latent.pixels import compare_with_pixels, pixel_vectors
from pipeline.evaluation.latent.search import Neighbours, Rows, Vectors, nearest, nearest_others
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.latent import PAIRS_IN_A_ROW, Shown, draw_outliers, draw_pairs
from pipeline.evaluation.reports.latent import (
    DuplicatesReport,
    OutliersReport,
    UnlikeReport,
    WithPixels,
)
from pipeline.evaluation.reports.words import cosine_text
from pipeline.stages._paths import PICTURES
from pipeline.stages._stored import gather

FOLDER = PICTURES / "embed"

# Draws, so that what grows with the square of the number of images stays within minutes.
_MOST_JUDGED = 100_000  # images whose neighbours among all are looked at
_PIXEL_QUERIES, _PIXEL_BASE = 2_000, 20_000
_GATHERED = 256

_OUTLIERS_SHOWN = 12
_UNLIKE_SHOWN = 9

Sets = Mapping[str, ImageSet]


def draw_rows(count: int, most: int, seed: int) -> Rows:
    """Return all rows, or a draw of `most` of them, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def against_pixels(sets: Sets, train: Vectors, test: Vectors, seed: int) -> WithPixels:
    """Compare latent vectors with pixels on the same images, a draw where there are many."""
    rows = {
        "train": draw_rows(len(train), _PIXEL_BASE, seed),
        "test": draw_rows(len(test), _PIXEL_QUERIES, seed),
    }
    pixels = {name: _pixels(sets[name], chosen) for name, chosen in rows.items()}
    labels = {name: sets[name].labels[chosen] for name, chosen in rows.items()}
    block = compare_with_pixels(
        (train[rows["train"]], pixels["train"]),
        labels["train"],
        (test[rows["test"]], pixels["test"]),
        labels["test"],
    )
    counts = {"queries": len(rows["test"]), "searched": len(rows["train"])}
    return WithPixels.model_validate(counts | block)


def look_for_duplicates(sets: Sets, gallery: Gallery, seed: int) -> DuplicatesReport:
    """Find near duplicates, and draw the surest, the last, and the first that are none."""
    rows = draw_rows(len(gallery.splits), _MOST_JUDGED, seed)
    k = min(duplicates.NEIGHBOURS, len(gallery.splits) - 1)
    near = nearest_others(gallery.vectors, rows, k, "near duplicates")
    found = find_duplicates(gallery.vectors, gallery.rows.labels, rows, near)
    report = report_duplicates(gallery, found, len(rows))
    _draw_duplicates(sets, gallery, found, report)
    return report


def look_for_outliers(sets: Sets, gallery: Gallery, seed: int) -> OutliersReport:
    """Find the images that are far from their class, and draw the furthest."""
    rows = draw_rows(len(gallery.splits), _MOST_JUDGED, seed)
    found = find_outliers(gallery.vectors, gallery.rows.labels, rows)
    order = np.argsort(-np.nan_to_num(found.score, nan=-np.inf), kind="stable")
    furthest = order[~np.isnan(found.score[order])][:_OUTLIERS_SHOWN]
    images = gather(sets, gallery, furthest)
    shown = [
        _shown(
            gallery,
            row,
            image,
            f"{gallery.splits[row]}, score {found.score[row]:.1f}",
            marked=bool(found.score[row] > outliers.THRESHOLD),
        )
        for row, image in zip(furthest.tolist(), images, strict=True)
    ]
    heading = f"The furthest from their class; framed: outliers, {len(found.rows)} in all"
    save(draw_outliers(shown, heading), FOLDER / "outliers.png")
    return report_outliers(gallery, found)


def look_for_unlike(sets: Sets, gallery: Gallery, of_test: Neighbours) -> UnlikeReport | None:
    """Find test images unlike anything in training; draw the least alike beside what is nearest.

    Args:
        sets: by split.
        gallery: all images.
        of_test: the training images nearest to each test image.
    """
    splits = np.array(gallery.splits)
    rows = {split: np.flatnonzero(splits == split) for split in sets}
    if not len(rows["val"]):
        return None
    train = gallery.vectors[: len(rows["train"])]
    of_val = nearest(train, gallery.vectors[rows["val"]], 1, "validation images")
    similarity = of_test.similarity[:, 0]
    threshold, below = unlike_training(of_val.similarity[:, 0], similarity)
    order = np.argsort(similarity, kind="stable")[:_UNLIKE_SHOWN]
    both = np.stack([rows["test"][order], of_test.rows[order, 0]], axis=1)
    notes = [f"cosine {cosine_text(similarity[i])}" for i in order]
    marks = [bool(similarity[i] < threshold) for i in order]
    heading = (
        "Test images and the training image nearest to each; framed: below"
        f" {cosine_text(threshold)}, {len(below)} in all"
    )
    pairs = _pairs(sets, gallery, both, notes, marks)
    save(draw_pairs(heading, [("", pairs)], "No test images."), FOLDER / "unlike.png")
    return report_unlike(gallery, rows["test"], of_test.rows[:, 0], similarity, threshold)


def _pixels(images: ImageSet, rows: Rows) -> Vectors:
    starts = range(0, len(rows), _GATHERED)
    parts = [pixel_vectors(images.gather(rows[at : at + _GATHERED])) for at in starts]
    return np.concatenate(parts)


def _draw_duplicates(
    sets: Sets, gallery: Gallery, found: Duplicates, report: DuplicatesReport
) -> None:
    last = max(found.found - PAIRS_IN_A_ROW, min(found.found, PAIRS_IN_A_ROW))
    parts = {
        "Near duplicates, the surest": range(min(found.found, PAIRS_IN_A_ROW)),
        "Near duplicates, the least sure": range(last, found.found),
        "Not near duplicates, the next pairs": range(
            found.found, min(found.found + PAIRS_IN_A_ROW, len(found.first))
        ),
    }
    rows = []
    for title, places in parts.items():
        both = np.stack([found.first[places], found.second[places]], axis=1)
        notes = [f"cosine {cosine_text(found.similarity[i])}" for i in places]
        rows.append((title, _pairs(sets, gallery, both, notes, [False] * len(places))))
    heading = f"Pairs of images by how improbably close they are; near duplicates: {report.pairs}"
    nothing = "Too few images to tell which are near duplicates."
    save(draw_pairs(heading, rows, nothing), FOLDER / "duplicates.png")


def _pairs(
    sets: Sets,
    gallery: Gallery,
    both: npt.NDArray[np.intp],
    notes: list[str],
    marked: list[bool],
) -> list[tuple[Shown, Shown]]:
    """Show pairs of rows of the gallery: a note beneath the second, a frame of marked firsts."""
    images = gather(sets, gallery, both.ravel())
    pairs = []
    for i, (first, second) in enumerate(both.tolist()):
        pairs.append(
            (
                _shown(gallery, first, images[2 * i], gallery.splits[first], marked=marked[i]),
                _shown(
                    gallery,
                    second,
                    images[2 * i + 1],
                    f"{gallery.splits[second]}, {notes[i]}",
                    marked=False,
                ),
            )
        )
    return pairs


def _shown(
    gallery: Gallery, row: int, image: npt.NDArray[np.generic], note: str, *, marked: bool
) -> Shown:
    place = place_of(gallery, row)
    return Shown(image, place.label, place.path, note, marked)
