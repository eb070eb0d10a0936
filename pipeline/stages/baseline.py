"""Hand-crafted features and a classical classifier: what any network must beat."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.data.parallel import map_chunks, usable_cores
from pipeline.data.shards import ImageSet
from pipeline.evaluation import classical, handcrafted
from pipeline.evaluation.measure import measure
from pipeline.evaluation.predictions import Predictions, write_predictions
from pipeline.files import write_json
from pipeline.params import Params
from pipeline.stages._paths import PACKED, PREDICTIONS, REPORTS

_PIXELS_AT_ONCE = 2**20  # some 100 MB while features are computed
_MOST_IMPORTANT = 20


def run(params: Params) -> None:
    """Train on packed/train; write the test posteriors and metrics."""
    train, test = ImageSet.open(PACKED / "train"), ImageSet.open(PACKED / "test")
    classes, how = train.info.classes, params.baseline
    names = handcrafted.feature_names(train.info.shape[2])
    features = _extract(PACKED / "train")
    model = classical.fit(features, train.labels, classes, how, usable_cores())
    test_features = _extract(PACKED / "test")
    probabilities = classical.posteriors(model, test_features, len(classes))
    weights = classical.importances(model, features, train.labels, how.seed)

    labels = test.labels.astype(np.int64)
    write_predictions(
        PREDICTIONS / "baseline.parquet",
        Predictions(classes, test.ids, test.paths, labels, probabilities),
    )
    block = measure(labels, probabilities, classes, params.evaluate)
    order = np.argsort(-weights, kind="stable")[:_MOST_IMPORTANT]
    write_json(
        REPORTS / "baseline.json",
        {
            "classifier": how.classifier,
            "features": len(names),
            "test": block,
            "most_important": [
                {"feature": names[i], "importance": float(weights[i])} for i in order
            ],
        },
    )
    print(
        f"baseline: {how.classifier} on {len(names)} features, test macro-F1"
        f" {block['macro_f1']['value']:.3f}"
    )


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
    return handcrafted.extract([ImageSet.open(folder).gather(np.array(rows))])
