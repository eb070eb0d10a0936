"""Test-time augmentation: posteriors averaged over views, with what it gains and costs."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.shards import ImageSet
from pipeline.evaluation.ladder import climb
from pipeline.evaluation.plots._style import save
from pipeline.evaluation.plots.curves import draw_ladder
from pipeline.evaluation.predictions import Predictions, write_predictions
from pipeline.files import write_json
from pipeline.params import Params
from pipeline.progress import watched
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import PACKED, PICTURES, PREDICTIONS, REPORTS, TUNED
from pipeline.vision.bundle import Bundle
from pipeline.vision.predict import BATCH_SIZE, View, probabilities
from pipeline.vision.tta import build_views, view_names


def run(params: Params) -> None:
    """Average models/tuned over the views, one by one, on packed/test."""
    test = ImageSet.open(PACKED / "test")
    views = build_views(params.tta.views)
    names = view_names(params.tta.views)
    bundle = load_matching(TUNED, test.info)
    # The first pass also warms up threads and caches, so that it is timed for nothing.
    plain, _ = _timed(test, bundle, None)
    passes = [_timed(test, bundle, view) for view in views]
    labels = test.labels.astype(np.int64)
    posteriors = [posterior for posterior, _ in passes]
    rungs = climb(labels, plain, posteriors, test.info.classes, params.evaluate)
    seconds = np.cumsum([passed for _, passed in passes])
    entries: list[dict[str, Any]] = [
        {
            "views": names[: count + 1],
            **rung,
            "cost": {
                "views_per_image": count + 1,
                "images_per_s": round(len(test) / max(float(seconds[count]), 1e-9), 1),
            },
        }
        for count, rung in enumerate(rungs)
    ]
    averaged = np.mean(posteriors, axis=0)
    write_predictions(
        PREDICTIONS / "tuned_tta.parquet",
        Predictions(test.info.classes, test.ids, test.paths, labels, averaged),
    )
    write_json(REPORTS / "tta.json", {"test": rungs[-1]["test"], "rungs": entries})
    save(draw_ladder(entries), PICTURES / "tta" / "ladder.png")
    gain = rungs[-1]["gain"]["macro_f1"]["value"]
    print(f"tta: {len(views)} views, macro-F1 {gain:+.3f} over the plain model")


def _timed(
    test: ImageSet, bundle: Bundle, view: View | None
) -> tuple[npt.NDArray[np.float64], float]:
    start = time.perf_counter()
    batches = watched(test.batches(BATCH_SIZE), len(test), "tta")
    return probabilities(bundle, batches, view), time.perf_counter() - start
