"""Where the final model looks: maps of its most confident mistakes; boxes against given ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from pipeline.data.packing.geometry import Boxes, fit_of
from pipeline.data.shards.shards import ImageSet
from pipeline.data.tables import BOX
from pipeline.errors import PipelineError
from pipeline.evaluation.localization.measures import (
    THRESHOLDS,
    Located,
    choose_threshold,
    measure,
)
from pipeline.evaluation.metrics.predictions import Predictions, read_predictions
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.located import (
    LocatedImage,
    LocatedMistake,
    draw_located,
    draw_located_mistakes,
)
from pipeline.evaluation.plots.sheets import mistakes_of, most_confident_mistakes
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.localize import LocalizeReport
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.progress import watched
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import FINAL, PACKED, PICTURES, PREDICTIONS, REPORTS, SPLIT
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.location.boxes import Map, boxes_of, enlarged, peak
from pipeline.vision.location.class_maps import ClassMaps

_FOLDER = PICTURES / "localize"
_MISTAKES_SHOWN = 12
_IMAGES_SHOWN = 24
_BATCH = 64

Rows = npt.NDArray[np.intp]
Labels = npt.NDArray[np.integer]


def run(params: Params) -> None:
    """Draw the maps of mistakes; where the data have boxes, choose a threshold and measure."""
    test = ImageSet.open(PACKED / "test")
    looker = _Looker.at(load_matching(FINAL, test.info))
    given = read_predictions(PREDICTIONS / "final.parquet")
    if given.ids != test.ids:
        raise PipelineError(
            f"{PREDICTIONS / 'final.parquet'} is about other images than {PACKED / 'test'}; run dvc"
            " repro evaluate"
        )
    _draw_mistakes(looker, test, given)
    found = _given_boxes(test)
    report = _judge(params.localize.threshold, looker, test, found, given)
    write_report(REPORTS / "localize.json", report)
    path = _FOLDER / "located.png"
    path.unlink(missing_ok=True)
    if report.boxes is None:
        print(f"localize: {report.method}, no boxes on test images to compare with")
        return
    save(_draw(looker, test, found, report.threshold), path)
    print(
        f"localize: {report.method}, boxes from {report.threshold:g} of a map's maximum, by"
        f" {report.chosen_on}: {report.boxes.box_accuracy.value:.1%} of {report.boxes.test} test"
        " images overlap theirs by half"
    )


@dataclass(frozen=True)
class _Looker:
    """A model and its maps."""

    bundle: Bundle
    maps: ClassMaps

    @classmethod
    def at(cls, bundle: Bundle) -> "_Looker":
        return cls(bundle, ClassMaps(bundle.network, bundle.description.shape))

    def heights(self, images: ImageSet, rows: Rows, classes: Labels) -> list[Map]:
        """Return the map of a class for each image, as large as the packed image."""
        pixels = images.gather(rows)
        labels = torch.from_numpy(classes.astype(np.int64))
        found = self.maps(self.bundle.normalize(pixels), labels).numpy()
        _, height, width, _ = pixels.shape
        return [enlarged(one, height, width, self.maps.places) for one in found]


@dataclass(frozen=True)
class _Given:
    """Rows of a set that have a box, n, and their boxes in px of the packed images, n x 4."""

    rows: Rows
    boxes: Boxes


def _given_boxes(images: ImageSet) -> _Given:
    """Return the boxes of a set, but for those of which its preprocessing leaves nothing."""
    names = ("path", "width", "height", *BOX.names)
    table = read_table(SPLIT, [], names)
    rows, boxes = [], []
    if set(names) <= set(table.column_names):
        columns = (table[name].to_pylist() for name in names)
        of_paths = {path: values for path, *values in zip(*columns, strict=True)}
        for row, path in enumerate(images.paths):
            width, height, *box = of_paths[path]
            if box[0] is not None:
                fit = fit_of(height, width, images.info.preprocessing)
                mapped = fit.to_array(np.array([box], np.float64))[0]
                if mapped[2:].all():
                    rows.append(row)
                    boxes.append(mapped)
    return _Given(np.array(rows, np.intp), np.array(boxes, np.float64).reshape(-1, 4))


def _judge(
    threshold: float, looker: _Looker, test: ImageSet, found: _Given, given: Predictions
) -> LocalizeReport:
    """Measure on test images, at the threshold of validation images if those have boxes."""
    grid: tuple[float, ...] = (threshold,)
    chosen, by, boxes = 0, "params", None
    if len(found.rows):
        val = ImageSet.open(PACKED / "val")
        of_val, validation = _given_boxes(val), None
        if len(of_val.rows):
            grid, by = THRESHOLDS, "validation"
            located = _locate(looker, val, of_val, grid)
            chosen = choose_threshold(located)
            validation = measure(located, chosen)["box_accuracy"]
        right = (given.probabilities.argmax(axis=1) == given.labels)[found.rows]
        located = replace(_locate(looker, test, found, grid), right=right)
        boxes = {
            "validation": len(of_val.rows),
            "test": len(found.rows),
            "validation_box_accuracy": validation,
            **measure(located, chosen),
        }
    return LocalizeReport.model_validate(
        {
            "model": looker.bundle.digest,
            "method": looker.maps.method,
            "places": looker.maps.size,
            "threshold": grid[chosen],
            "chosen_on": by,
            "boxes": boxes,
        }
    )


def _locate(
    looker: _Looker, images: ImageSet, given: _Given, thresholds: Sequence[float]
) -> Located:
    """Find boxes in the maps of the true classes, at each threshold."""
    found, peaks = [], []
    rows = given.rows
    pieces = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    for piece in watched(pieces, len(rows), f"localize: {images.folder.name}"):
        for heights in looker.heights(images, piece, images.labels[piece]):
            found.append(boxes_of(heights, thresholds))
            peaks.append(peak(heights))
    return Located(given.boxes, np.stack(found), np.array(peaks), np.ones(len(rows), np.bool_))


def _draw_mistakes(looker: _Looker, test: ImageSet, given: Predictions) -> None:
    rows = most_confident_mistakes(given.labels, given.probabilities, _MISTAKES_SHOWN)
    said = given.probabilities.argmax(axis=1)
    mistakes = []
    if len(rows):
        mistakes = [
            LocatedMistake(one, of_said, of_true)
            for one, of_said, of_true in zip(
                mistakes_of(given, rows, list(test.gather(rows))),
                looker.heights(test, rows, said[rows]),
                looker.heights(test, rows, given.labels[rows]),
                strict=True,
            )
        ]
    wrong = int((said != given.labels).sum())
    save(draw_located_mistakes(mistakes, wrong), _FOLDER / "mistakes.png")


def _draw(looker: _Looker, test: ImageSet, found: _Given, threshold: float) -> Figure:
    """Draw test images, evenly over their order."""
    spread = np.linspace(0, len(found.rows) - 1, min(_IMAGES_SHOWN, len(found.rows)))
    shown = spread.round().astype(np.intp)
    rows = found.rows[shown]
    labels = test.labels[rows]
    images = [
        LocatedImage(
            image,
            heights,
            test.info.classes[label],
            test.paths[row],
            boxes_of(heights, [threshold])[0],
            box,
        )
        for image, heights, label, row, box in zip(
            test.gather(rows),
            looker.heights(test, rows, labels),
            labels,
            rows,
            found.boxes[shown],
            strict=True,
        )
    ]
    heading = f"{len(images)} of {len(found.rows)} test images: what speaks for their class"
    return draw_located(images, f"{heading}; cyan: box from the map, white: given")
