"""How often a number of views is chosen that gains nothing, and one that gains something.

    python tests/benchmarks/choice_of_views.py                 # some minutes
    python tests/benchmarks/choice_of_views.py --trials 50     # a quick look

Each trial is a validation set with the answers of a model to images as they are and to eight
steps of views. Logits have noise of their own, of which steps share a part with each other. Where
the noise is all in which they differ, nothing should be chosen; the intervals promise it in 97.5 %
of trials at least (a gain is one side of a 95 % interval).

In a second table the steps are means of 1 to 8 views, the first of them the image as it is, and the
gain is that of averaging: the more, the more noise of its own each view has. `penalty` is what the
true class's logit has more, or less, in all views but the first.

Each cell holds the share of trials in which views are chosen, that share if all steps were tried
whatever they promise, and the mean number of views that the search tries.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from pipeline.evaluation.metrics.scores import Floats, Ints
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.tta.search import ViewSearch
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
# What the true class's logit has more in the steps, or in views, than in the images as they are.
GAINS, PENALTIES, NOISES = (0.0, 0.5, 1.0), (0.0, -0.3), (0.5, 1.5)

Trial = tuple[Ints, Floats, list[Floats]]  # labels, posteriors of images as they are and of steps
Draw = Callable[[np.random.Generator, tuple[int, ...], float, float], Trial]


class ExhaustiveSearch(ViewSearch):
    """Tries all steps until one is chosen, whatever they promise."""

    def _may_gain(self, gain: object) -> bool:
        del gain
        return True


def main() -> None:
    """Print a row per kind of validation set, a column per noise and gain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    width = max(map(len, SETS))
    tables: tuple[tuple[Draw, str, tuple[float, ...]], ...] = (
        (draw_steps, "gain", GAINS),
        (draw_averages, "penalty", PENALTIES),
    )
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for draw, title, gains in tables:
            columns = [(noise, gain) for gain in gains for noise in NOISES]
            cases = [(draw, sizes, *column) for sizes in SETS.values() for column in columns]
            found = pool.map(partial(count, trials=arguments.trials), cases)
            print(f"{draw.__name__}, {arguments.trials} validation sets each")
            heads = [f"noise {noise:g}, {title} {gain:g}" for noise, gain in columns]
            print(" " * width, *(f"{head:>23}" for head in heads))
            for name in SETS:
                print(f"{name:{width}}", *(f"{next(found):>23}" for _ in columns), flush=True)


def count(case: tuple[Draw, tuple[int, ...], float, float], trials: int) -> str:
    """Return a cell of the table."""
    draw, *how = case
    rng = np.random.default_rng(1)
    found = [search(*draw(rng, *how)) for _ in range(trials)]
    chosen, exhaustive, tried = np.mean(found, axis=0)
    return f"{chosen:.3f} {exhaustive:.3f} {tried:.1f}"


def search(labels: Ints, plain: Floats, steps: list[Floats]) -> tuple[bool, bool, int]:
    """Say whether views are chosen, whether they are when all are tried, and how many are tried."""
    as_it_is, scored = Scored.of(labels, plain, HOW), [Scored.of(labels, one, HOW) for one in steps]
    (exhaustive, _), (chosen, tried) = (
        run(kind(as_it_is, len(steps), "auto"), scored) for kind in (ExhaustiveSearch, ViewSearch)
    )
    return chosen, exhaustive, tried


def run(searching: ViewSearch, steps: list[Scored]) -> tuple[bool, int]:
    """Return whether views are chosen, and how many are tried."""
    tried = 0
    while searching.choice is None:
        searching.add(steps[tried])
        tried += 1
    return searching.choice.count > 0, tried


def draw_steps(
    rng: np.random.Generator, sizes: tuple[int, ...], noise: float, gain: float
) -> Trial:
    """Draw a validation set, and steps that all gain alike."""
    labels, truth, image = draw_images(rng, sizes)
    shared = rng.normal(size=truth.shape)
    own = rng.normal(size=(STEPS + 1, *truth.shape))
    own[1:] = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own[1:]
    logits = image + noise * own
    logits[1:] += gain * truth
    plain, *steps = posteriors(logits)
    return labels, plain, steps


def draw_averages(
    rng: np.random.Generator, sizes: tuple[int, ...], noise: float, penalty: float
) -> Trial:
    """Draw a validation set, and the means of 1 to 8 views."""
    labels, truth, image = draw_images(rng, sizes)
    logits = image + noise * rng.normal(size=(STEPS, *truth.shape))
    logits[1:] += penalty * truth
    views = posteriors(logits)
    means = np.cumsum(views, axis=0) / np.arange(1, STEPS + 1)[:, None, None]
    return labels, views[0], list(means)


def draw_images(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[Ints, Floats, Floats]:
    """Draw labels, the same as vectors of 0 and 1, and the part of logits that all views share."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    truth = np.eye(len(sizes))[labels]
    return labels, truth, rng.normal(size=truth.shape) + SKILL * truth


def posteriors(logits: Floats) -> Floats:
    """Return the softmax over the last axis."""
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


if __name__ == "__main__":
    main()
