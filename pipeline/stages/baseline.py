"""Hand-crafted features and a classical classifier: what any network must beat."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
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

_PIXELS_AT_ONCE = 2**19  # some 50 MB while features are computed
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
    groups = handcrafted.feature_groups(train.info.shape[2])
    names = [name for group in groups.values() for name in group]
    labels = train.labels.astype(np.int64)
    rows = classical.training_rows(labels, len(names), how)
    labels = labels[rows]
    features = _extract(PACKED / "train", rows)
    fitted = classical.fit(
        features, labels, classes, how, metric=params.evaluate.metric, jobs=usable_cores()
    )
    del features
    predicted, given = {}, {}
    for split, name in _FILES.items():
        given[split] = _extract(PACKED / split)
        predicted[split] = _predict(fitted.model, PACKED / split, given[split])
        write_predictions(PREDICTIONS / f"{name}.parquet", predicted[split])
    losses = classical.group_losses(
        fitted.model,
        given["val"],
        predicted["val"].labels,
        {name: len(group) for name, group in groups.items()},
        how.seed,
    )
    test = predicted["test"]
    scored = Scored.of(test.labels, test.probabilities, params.evaluate)
    report = BaselineReport.model_validate(
        {
            "classifier": fitted.chosen.classifier,
            "settings": fitted.chosen.settings,
            "tried": [vars(trial) for trial in fitted.tried],
            "training_images": fitted.rows,
            "features": len(names),
            "test": measure(scored, classes),
            "most_important": _most_important(fitted.model, names),
            "groups": [
                {"group": name, "loss": losses[name]}
                for name in sorted(losses, key=losses.__getitem__, reverse=True)
            ],
        }
    )
    write_report(REPORTS / "baseline.json", report)
    metric = metric_named(params.evaluate.metric)
    print(
        f"baseline: {fitted.chosen.classifier}{_in_words(fitted)} on {len(names)} features of"
        f" {fitted.rows} images, test {metric.noun} {number(metric.value(scored))}"
    )


def _in_words(fitted: classical.Fitted) -> str:
    """Say which settings were chosen, and of how many."""
    settings = ", ".join(f"{name} {value}" for name, value in fitted.chosen.settings.items())
    return f" ({settings}; of {len(fitted.tried)} tried)" if fitted.tried else f" ({settings})"


def _most_important(model: Pipeline, names: Sequence[str]) -> list[dict[str, str | float]]:
    weights = classical.importances(model)
    if weights is None:
        return []
    order = np.argsort(-weights, kind="stable")[:_MOST_IMPORTANT]
    return [{"feature": names[i], "importance": float(weights[i])} for i in order]


def _predict(model: Pipeline, folder: Path, features: handcrafted.Features) -> Predictions:
    images = ImageSet.open(folder)
    posteriors = classical.posteriors(model, features, len(images.info.classes))
    labels = images.labels.astype(np.int64)
    return Predictions(images.info.classes, images.ids, images.paths, labels, posteriors)


def _extract(folder: Path, rows: npt.NDArray[np.intp] | None = None) -> handcrafted.Features:
    """Compute the features of a packed set, or of some rows of it, in all cores: n x d."""
    images = ImageSet.open(folder)
    height, width, _ = images.info.shape
    pieces = map_chunks(
        partial(_extract_rows, folder=folder),
        range(len(images)) if rows is None else rows.tolist(),
        chunk=max(_PIXELS_AT_ONCE // (height * width), 1),
        label=f"features of {folder.name}",
    )
    return np.concatenate(list(pieces))


def _extract_rows(rows: Sequence[int], folder: Path) -> handcrafted.Features:
    return handcrafted.extract([open_once(folder).gather(np.array(rows))])
