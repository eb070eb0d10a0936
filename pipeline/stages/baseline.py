"""Hand-crafted features and a classical classifier: what any network must beat."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from pipeline.data.shards.shards import ImageSet, open_once
from pipeline.evaluation.baseline import classical, handcrafted
from pipeline.evaluation.metrics.measure import measure
from pipeline.evaluation.metrics.predictions import Predictions, write_predictions
from pipeline.evaluation.metrics.table import Scored, metric_named
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.schema import BaselineReport
from pipeline.evaluation.reports.words import number
from pipeline.parallel import map_chunks, usable_cores
from pipeline.params import Params
from pipeline.stages._paths import PACKED, PREDICTIONS, REPORTS

_PIXELS_AT_ONCE = 2**20  # some 100 MB while features are computed
_MOST_IMPORTANT = 20
_FILES = {"val": "baseline_val", "test": "baseline"}  # of predictions, by split


def run(params: Params) -> None:
    """Train on packed/train; write posteriors of packed/val and packed/test, and metrics.

    With the classifier `none` the posteriors are those of no images.
    """
    train = ImageSet.open(PACKED / "train")
    classes, how = train.info.classes, params.baseline
    if how.classifier == "none":
        nothing = Predictions(classes, [], [], np.empty(0, np.int64), np.empty((0, len(classes))))
        for name in _FILES.values():
            write_predictions(PREDICTIONS / f"{name}.parquet", nothing)
        report = BaselineReport(classifier="none", features=0, test=None, most_important=())
        write_report(REPORTS / "baseline.json", report)
        print("baseline: none is fitted, since baseline.classifier is none")
        return
    names = handcrafted.feature_names(train.info.shape[2])
    features = _extract(PACKED / "train")
    model = classical.fit(features, train.labels, classes, how, usable_cores())
    predicted = {}
    for split, name in _FILES.items():
        predicted[split] = _predict(model, PACKED / split)
        write_predictions(PREDICTIONS / f"{name}.parquet", predicted[split])
    weights = classical.importances(model, features, train.labels, how.seed)

    test = predicted["test"]
    scored = Scored.of(test.labels, test.probabilities, params.evaluate)
    order = np.argsort(-weights, kind="stable")[:_MOST_IMPORTANT]
    report = BaselineReport.model_validate(
        {
            "classifier": how.classifier,
            "features": len(names),
            "test": measure(scored, classes),
            "most_important": [
                {"feature": names[i], "importance": float(weights[i])} for i in order
            ],
        }
    )
    write_report(REPORTS / "baseline.json", report)
    metric = metric_named(params.evaluate.metric)
    print(
        f"baseline: {how.classifier} on {len(names)} features, test {metric.noun}"
        f" {number(metric.value(scored))}"
    )


def _predict(model: Pipeline, folder: Path) -> Predictions:
    images = ImageSet.open(folder)
    posteriors = classical.posteriors(model, _extract(folder), len(images.info.classes))
    labels = images.labels.astype(np.int64)
    return Predictions(images.info.classes, images.ids, images.paths, labels, posteriors)


def _extract(folder: Path) -> handcrafted.Features:
    """Compute the features of a packed set in all cores: n x d."""
    images = ImageSet.open(folder)
    height, width, _ = images.info.shape
    pieces = map_chunks(
        partial(_extract_rows, folder=folder),
        range(len(images)),
        chunk=max(_PIXELS_AT_ONCE // (height * width), 1),
        label=f"features of {folder.name}",
    )
    return np.concatenate(list(pieces))


def _extract_rows(rows: Sequence[int], folder: Path) -> handcrafted.Features:
    return handcrafted.extract([open_once(folder).gather(np.array(rows))])
