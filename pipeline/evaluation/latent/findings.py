"""What was found in the latent space, as the report holds it."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.latent.duplicates import Duplicates
from pipeline.evaluation.latent.embeddings import Gallery
from pipeline.evaluation.latent.outliers import Outliers
from pipeline.evaluation.latent.search import Rows
from pipeline.evaluation.metrics.intervals import figure, wilson
from pipeline.evaluation.reports.latent import (
    DuplicateGroup,
    DuplicatesReport,
    Outlier,
    OutliersReport,
    Place,
    Unlike,
    UnlikeReport,
)
from pipeline.evaluation.reports.schema import Figure

_LISTED = 100
_LISTED_OF_GROUP = 20


def place_of(gallery: Gallery, row: int) -> Place:
    """Say which image a row of the gallery is."""
    rows = gallery.rows
    label = rows.classes[rows.labels[row]]
    return Place(path=rows.paths[row], label=label, split=gallery.splits[row])


def report_duplicates(gallery: Gallery, found: Duplicates, searched: int) -> DuplicatesReport:
    """Count and list groups of near duplicates.

    Args:
        gallery: all images.
        found: rows of the gallery.
        searched: rows whose neighbours were looked at.
    """
    least: dict[int, float] = {}  # by the first row of a group
    group_of = {row: int(group[0]) for group in found.groups for row in group.tolist()}
    pairs = zip(found.first[: found.found].tolist(), found.similarity, strict=False)
    for row, cosine in pairs:
        least[group_of[row]] = min(least.get(group_of[row], 1.0), float(cosine))
    groups = [
        DuplicateGroup(
            similarity=least[int(group[0])],
            images=tuple(place_of(gallery, row) for row in group.tolist()),
        )
        for group in found.groups
    ]
    across = [len({image.split for image in group.images}) > 1 for group in groups]
    several = [len({image.label for image in group.images}) > 1 for group in groups]
    # Where copies do harm comes first: labels that contradict each other, then leaks.
    order = sorted(range(len(groups)), key=lambda i: (not several[i], not across[i], i))
    listed = (groups[i] for i in order[:_LISTED])
    return DuplicatesReport(
        searched=searched,
        dimension=None if np.isnan(found.dimension) else found.dimension,
        pairs=found.found,
        groups=len(groups),
        images=len(group_of),
        across_splits=sum(across),
        of_several_classes=sum(several),
        listed=tuple(
            group.model_copy(update={"images": group.images[:_LISTED_OF_GROUP]}) for group in listed
        ),
    )


def report_outliers(gallery: Gallery, found: Outliers) -> OutliersReport:
    """Count and list the images that are far from their class."""
    rows = found.rows.tolist()
    names = [gallery.rows.classes[label] for label in gallery.rows.labels[found.rows]]
    return OutliersReport(
        judged=int(np.count_nonzero(~np.isnan(found.score))),
        outliers=len(rows),
        classes=dict(Counter(names).most_common()),
        listed=tuple(
            Outlier(
                **place_of(gallery, row).model_dump(),
                score=float(found.score[row]),
                similarity=float(found.similarity[row]),
            )
            for row in rows[:_LISTED]
        ),
    )


def report_unlike(
    gallery: Gallery,
    test: Rows,
    nearest: Rows,
    similarity: npt.NDArray[np.floating],
    threshold: float,
) -> UnlikeReport:
    """Count the test images unlike anything in training, and list the least alike.

    Args:
        gallery: all images.
        test: n rows of the test images.
        nearest: n rows of the training image nearest to each.
        similarity: n, their cosines.
        threshold: see `unlike_training`.
    """
    below, n = np.asarray((similarity < threshold).sum()), np.asarray(len(test))
    order = np.argsort(similarity, kind="stable")[:_LISTED].tolist()
    return UnlikeReport(
        threshold=threshold,
        below=int(below),
        share=Figure.model_validate(figure(float(below / n), wilson(below, n))),
        listed=tuple(
            Unlike(
                **place_of(gallery, int(test[i])).model_dump(),
                similarity=float(similarity[i]),
                nearest=place_of(gallery, int(nearest[i])),
            )
            for i in order
        ),
    )
