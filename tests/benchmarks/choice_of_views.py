"""How often a number of views is chosen that gains nothing, and one that gains something.

    python tests/benchmarks/choice_of_views.py                 # some minutes
    python tests/benchmarks/choice_of_views.py --trials 50     # a quick look

Each trial is a validation set with the answers of a model to images as they are and to eight
steps of views. Logits have noise of their own, of which steps share a part with each other. Where
the noise is all in which they differ, nothing should be chosen; the intervals promise it in 97.5 %
of trials at least (a gain is one side of a 95 % interval).
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from pipeline.evaluation.metrics.measure import compare
from pipeline.evaluation.tta.search import ViewPosteriors, choose_views
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=500,
    calibration_bins=15,
    top_k=(),
    suspicious_images=1,
)
STEPS, SKILL, SHARED = 8, 2.5, 0.7
# Images of each class.
SETS = {
    "30 classes of 9": (9,) * 30,
    "10 classes of 27": (27,) * 10,
    "long tail, 300 to 2": (300, 180, 100, 60, 36, 20, 12, 7, 4, 2),
    "long tail, 30 to 1": (30, 20, 10, 5, 3, 2, 1, 1, 1, 1),
    "seven of 30, three of 1": (30,) * 7 + (1,) * 3,
    "136, imbalanced": (60, 40, 20, 10, 6),
    "3 classes of 5": (5,) * 3,
    "10 classes of 1": (1,) * 10,
}
# What the true class's logit has more in the steps than in the images as they are.
GAINS = (0.0, 0.5, 1.0)


def main() -> None:
    """Print a row per kind of validation set, a column per gain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    cases = [(sizes, noise, gain) for sizes in SETS.values() for noise, gain in columns()]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = iter(list(pool.map(partial(share_chosen, trials=arguments.trials), cases)))
    print(f"share of {arguments.trials} validation sets on which views are chosen")
    width = max(map(len, SETS))
    heads = [f"noise {noise:g}, gain {gain:g}" for noise, gain in columns()]
    print(" " * width, *(f"{head:>20}" for head in heads))
    for name in SETS:
        print(f"{name:{width}}", *(f"{next(found):20.3f}" for _ in columns()), flush=True)


def columns() -> list[tuple[float, float]]:
    """Return noise and gain of each column."""
    return [(noise, gain) for gain in GAINS for noise in (0.5, 1.5)]


def share_chosen(case: tuple[tuple[int, ...], float, float], trials: int) -> float:
    """Return the share of validation sets on which any number of views is chosen."""
    rng = np.random.default_rng(1)
    return float(np.mean([is_chosen(draw(rng, *case)) for _ in range(trials)]))


def draw(
    rng: np.random.Generator, sizes: tuple[int, ...], noise: float, gain: float
) -> ViewPosteriors:
    """Draw a validation set and what is said of it."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    truth = np.eye(len(sizes))[labels]
    image, shared = rng.normal(size=(2, *truth.shape))
    own = rng.normal(size=(STEPS + 1, *truth.shape))
    own[1:] = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own[1:]
    logits = image + SKILL * truth + noise * own
    logits[1:] += gain * truth
    odds = np.exp(logits)
    plain, *steps = odds / odds.sum(axis=2, keepdims=True)
    return ViewPosteriors(labels, plain, steps)


def is_chosen(given: ViewPosteriors) -> bool:
    """Say whether any number of views is chosen."""
    gains = [compare(given.labels, step, given.plain, HOW) for step in given.steps]
    return choose_views(given, [{"validation": {"gain": gain}} for gain in gains], HOW).count > 0


if __name__ == "__main__":
    main()
