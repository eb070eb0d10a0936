"""What the hand-crafted baseline costs: features of an image, and classifiers of many classes.

python -m tests.benchmarks.baseline_cost                 images/s of the features, in one thread
python -m tests.benchmarks.baseline_cost --classes 1000  time and memory of the classifiers

Features are compared with what must be done with an image in any case, in the same run: decoding
its PNG and resizing it. Those that take longest are timed alone. The classifiers get as many rows
as their bounds let through, of 500 rows of each class.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from pipeline.data.images.decode import decode
from pipeline.data.parcels import draw_parcel
from pipeline.evaluation.baseline import _appearance, classical, handcrafted
from pipeline.parallel import usable_cores
from pipeline.params import Baseline

ROUNDS, IMAGES, FEATURES = 5, 200, 285


def seconds(work: Callable[[], Any]) -> float:
    """Return the least CPU time of some rounds."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def pictures(kind: str, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "heights":
        drawn = [draw_parcel(i % 3, np.random.default_rng([0, i])) for i in range(IMAGES)]
        return np.stack([cv2.resize(one, (side, side)) for one in drawn])[..., None]
    channels = 3 if kind == "colour" else 1
    small = rng.integers(0, 256, (IMAGES, 8, 8, channels), np.uint8)
    shape = (side, side, channels)
    return np.stack([cv2.resize(one, (side, side)).reshape(shape) for one in small])


def features() -> None:
    cv2.setNumThreads(1)
    print("images/s of one core: decode and resize, features, of these HOG, LBP + co-occurrence")
    for kind, side in (("grey", 28), ("heights", 64), ("colour", 128)):
        images = pictures(kind, side)
        files = [cv2.imencode(".png", one)[1].tobytes() for one in images]

        def read(files=files, side=side, grey=kind != "colour"):
            for one in files:
                cv2.resize(decode(one, 0, grey=grey, needed=(side, side)), (side - 1, side - 1))

        levels = [one[..., 0].astype(np.uint8) for one in images]
        spent = [
            seconds(read),
            seconds(lambda images=images: handcrafted.extract([images])),
            seconds(lambda levels=levels: _appearance.edges(levels)),
            seconds(lambda levels=levels: _appearance.texture(levels)),
        ]
        rates = "  ".join(f"{IMAGES / one:8.0f}" for one in spent)
        print(f"{kind:>8} {side:3} px {rates}   features / reading {spent[1] / spent[0]:.1f}")


def classifiers(classes: int) -> None:
    rng = np.random.default_rng(0)
    all_labels = np.repeat(np.arange(classes), 500)
    names = [str(i) for i in range(classes)]
    for name in ("auto", "linear_discriminant", "logistic_regression", "random_forest"):
        how = Baseline(
            seed=0, classifier=name, class_weight="balanced", rows_per_class=500, tuning_rows=2000
        )
        rows = classical.training_rows(all_labels, FEATURES, how)
        labels = all_labels[rows]
        centres = rng.normal(size=(classes, FEATURES)).astype(np.float32)
        given = centres[labels] + 3 * rng.normal(size=(len(rows), FEATURES)).astype(np.float32)
        start = time.perf_counter()
        cpu = time.process_time()
        fitted = classical.fit(given, labels, names, how, metric="macro_f1", jobs=usable_cores())
        spent = time.perf_counter() - start, time.process_time() - cpu
        test = centres[:500] + 3 * rng.normal(size=(min(classes, 500), FEATURES))
        right = (fitted.model.predict(test.astype(np.float32)) == np.arange(len(test))).mean()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{classes} classes, {name}: {fitted.chosen.classifier} on {fitted.rows} rows,"
            f" {spent[0]:.0f} s ({spent[1]:.0f} s of CPU), {right:.0%} right, peak so far"
            f" {peak:.1f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int)
    given = parser.parse_args()
    classifiers(given.classes) if given.classes else features()
