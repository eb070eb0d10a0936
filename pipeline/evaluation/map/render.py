"""The map page: what goes into its template."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.map.thumbnails import Thumbnails
from pipeline.evaluation.plots import symbol
from pipeline.evaluation.theme import templates_of

# Of the whole file, which stays below 10 MB.
BUDGET_BYTES = 9_700_000
_PACKAGE = "pipeline.evaluation.map"
_SCRIPTS = ("unpack.js", "draw.js", "page.js", "controls.js")
_NO_ANSWER = 65535


@dataclass(frozen=True)
class MapPoints:
    """n images of k classes in the plane.

    Attributes:
        classes: k names.
        paths: n, as in the index.
        labels: n class numbers.
        places: n x 2.
        sets: the names of the sets that the images are of.
        of_set: n numbers of sets.
        answers: n class numbers that the final model answered, or -1 where it was not asked.
        probabilities: n, of these answers, in [0, 1].
    """

    classes: Sequence[str]
    paths: Sequence[str]
    labels: npt.NDArray[np.integer]
    places: npt.NDArray[np.float64]
    sets: Sequence[str]
    of_set: npt.NDArray[np.integer]
    answers: npt.NDArray[np.integer]
    probabilities: npt.NDArray[np.floating]


def room_for_thumbnails(points: MapPoints) -> int:
    """Return how many bytes of thumbnails leave the page below 10 MB."""
    return (BUDGET_BYTES - sum(map(len, _packed(points)))) * 3 // 4


def render_map(points: MapPoints, thumbnails: Thumbnails, title: str, notes: Sequence[str]) -> str:
    """Return the page as HTML that needs no other file and no network.

    Names of files and classes are in it as base64 only, and are shown as text; so nothing in them
    can become part of the page.

    Args:
        points: at most some 50,000; with more a browser shows less than 30 frames a second.
        thumbnails: of these images.
        title: of the page.
        notes: how the map was made, a sentence each.
    """
    sheet = {
        name: getattr(thumbnails, name) for name in ("height", "width", "columns", "per_sheet")
    }
    script = "\n".join(["(async () => {", '"use strict";', *map(_text, _SCRIPTS), "})();"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    texts, numbers = _packed(points)
    return (
        templates_of(_PACKAGE)
        .get_template("map.html")
        .render(
            title=title,
            notes=notes,
            script=script,
            digest=digest,
            texts=texts,
            numbers=numbers,
            thumbnails=_base64_gzip(thumbnails.numbers.astype("<i4").tobytes()),
            sheet=json.dumps(sheet),
            sheets=[base64.b64encode(one).decode() for one in thumbnails.sheets],
        )
    )


def _packed(points: MapPoints) -> tuple[str, str]:
    """Return texts as JSON, and numbers one column after the other; each as base64 of gzip."""
    symbols = [symbol(number) for number in range(len(points.classes))]
    texts = {
        "classes": [
            {"name": name, "colour": one.colour, "marker": one.marker}
            for name, one in zip(points.classes, symbols, strict=True)
        ],
        "sets": list(points.sets),
        "paths": list(points.paths),
    }
    places = points.places
    low = places.min(axis=0, initial=np.inf)
    span = max(float((places.max(axis=0, initial=-np.inf) - low).max()), 1e-12)
    steps = ((places - low) / span * 65535).round() if len(places) else places
    answers = np.where(points.answers < 0, _NO_ANSWER, points.answers)
    columns = (*steps.T, points.labels, answers, points.probabilities * 10_000, points.of_set)
    packed = b"".join(np.round(column).astype("<u2").tobytes() for column in columns)
    return _base64_gzip(json.dumps(texts, ensure_ascii=False).encode()), _base64_gzip(packed)


def _base64_gzip(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _text(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
