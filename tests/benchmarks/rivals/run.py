"""Convoy against fastai and a torchvision loop at equal wall time, on one cut of a data set.

    python -m tests.benchmarks.rivals.cut DATA CUT --per-class 40
    python -m tests.benchmarks.rivals.run CUT OUT --python RIVALS/bin/python \
        --weights FILE.safetensors --size 128 --seeds 0 1 2 -S recipe.name=auto -S recipe.budget=90s

The rivals have an environment of their own, since fastai is no dependency of Convoy:

    python -m venv RIVALS
    RIVALS/bin/pip install -r tests/benchmarks/rivals/requirements.txt

On Linux, take torch and torchvision from PyTorch's index of CPU builds first, or they bring CUDA.

All take turns, seed by seed, so that a slow hour of the machine slows all of them. Convoy comes
first: `dvc repro evaluate` in a fresh clone, see convoy_run.py. Its seconds are the budget of the
others. All have the same images, network, size and weights, and each is timed as a process of its
own, with its start and its predictions.

How many epochs of a rival fit is told by a run of one epoch and one of two. Where the run that
follows misses the budget, its own seconds tell better, and another is made. How a rival computes
fastest, in fp32 or bf16, with channels first or last, is found without the clock; Convoy's own
trial is on it.

The table has means over the seeds, and paired 95 % intervals of a bootstrap over the test images.
These are for the very networks of these seeds. The epochs of Convoy are those of both trainings;
those of fastai come after one of its head alone. Each run is a JSON file in OUT: a call that was
interrupted goes on, and more seeds may be added.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics import intervals, scores
from pipeline.evaluation.metrics.scores import Answers, Floats
from pipeline.evaluation.metrics.table import Resamples

ROOT = Path(__file__).parents[3]
HERE = "tests.benchmarks.rivals"
CONVOY = "Convoy"
# The module and the arguments of each, with and without weights to start from.
SCRATCH = {"torch-scratch": ["torch_loop", "--mode", "scratch"]}
RIVALS = {
    True: {
        "fastai": ["fastai_loop"],
        "torch-tune": ["torch_loop", "--mode", "tune"],
        "torch-head": ["torch_loop", "--mode", "head"],
        **SCRATCH,
    },
    False: {"fastai": ["fastai_loop"], **SCRATCH},
}
# A run that is nearer to its budget than this share is not repeated.
TOLERANCE, TRIES = 0.05, 5
# A run has at most so many times the epochs of the longest before it: what noise makes of the pace
# of short runs must not become an endless one.
GROWTH = 16
RESAMPLES = 2000

Result = dict[str, Any]


def main() -> None:
    """Run all contestants and print their table."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep_settings(arguments)
    rivals = [Rival(arguments, name) for name in RIVALS[arguments.weights is not None]]
    found: dict[str, list[Result]] = {name: [] for name in (CONVOY, *(r.name for r in rivals))}
    for seed in arguments.seeds:
        result = run_convoy(arguments, seed)
        found[CONVOY].append(result)
        for rival in rivals:
            found[rival.name].append(rival.run_within(result["seconds"], seed))
    print(table(found, read_truth(arguments.cut)))


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cut", type=Path, help="a folder that cut.py made")
    parser.add_argument("out", type=Path, help="a folder for the results")
    parser.add_argument("--python", type=Path, required=True, help="of the rivals' environment")
    parser.add_argument("--arch", default="squeezenet1_0", help="a network, as model.name")
    parser.add_argument("--weights", type=Path, help="its .safetensors file; default: random")
    parser.add_argument("--size", type=int, default=128, help="px of each side")
    parser.add_argument("--flip", action="store_true", help="rivals may mirror images")
    parser.add_argument("--batch", type=int, default=32, help="of the rivals")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the rivals")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--lr", action="append", default=[], metavar="RIVAL=RATE")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    arguments.cut, arguments.out = arguments.cut.resolve(), arguments.out.resolve()
    arguments.python = arguments.python.absolute()  # a link, which makes it that environment's
    arguments.weights = arguments.weights and arguments.weights.resolve()
    arguments.lr = dict(pair.partition("=")[::2] for pair in arguments.lr)
    rivals = RIVALS[arguments.weights is not None]
    if not arguments.lr.keys() <= rivals.keys():
        parser.error(f"--lr: expected RIVAL=RATE, of {', '.join(rivals)}")
    return arguments


def keep_settings(arguments: argparse.Namespace) -> None:
    """Refuse results of other settings; other seeds may join them."""
    settings = {name: str(value) for name, value in vars(arguments).items() if name != "seeds"}
    file = arguments.out / "settings.json"
    if not file.exists():
        file.write_text(json.dumps(settings, indent=1))
    before = json.loads(file.read_text())
    other = [name for name, value in settings.items() if before.get(name) != value]
    if other:
        raise SystemExit(f"{arguments.out}: has results with another {', '.join(other)}")


def run_convoy(arguments: argparse.Namespace, seed: int) -> Result:
    """Run Convoy once, or read what it did."""
    values = {
        "pack.height": arguments.size,
        "pack.width": arguments.size,
        "pack.channels": 3,
        # Near duplicates across the splits stay: all contestants have the same images.
        "split.across_given_splits": "allow",
        "model.name": arguments.arch,
        "train.weights": arguments.weights or "null",
        "train.seed": 2 * seed,
        "finetune.seed": 2 * seed + 1,
    }
    settings = [f"{key}={value}" for key, value in values.items()] + arguments.set
    words = [word for setting in settings for word in ("-S", setting)]
    file = arguments.out / f"{CONVOY}-seed{seed}.json"
    return play([sys.executable, "-m", f"{HERE}.convoy_run", str(arguments.cut)], file, words)


class Rival:
    """A contestant whose epochs are made to fill a budget.

    Attributes:
        name: in the table, and of its files.
        pace: the seconds of its latest run of so many epochs.
    """

    def __init__(self, arguments: argparse.Namespace, name: str) -> None:
        module, *mode = RIVALS[arguments.weights is not None][name]
        self.name, self.pace = name, dict[int, float]()
        self._out = arguments.out
        self._command = [str(arguments.python), "-m", f"{HERE}.{module}", str(arguments.cut)]
        options = [*mode, "--arch", arguments.arch, "--size", str(arguments.size)]
        options += ["--batch", str(arguments.batch), "--workers", str(arguments.workers)]
        if arguments.weights and name not in SCRATCH:
            options += ["--weights", str(arguments.weights)]
        options += ["--flip"] if arguments.flip else []
        options += ["--lr", arguments.lr[name]] if name in arguments.lr else []
        self._options = options

    def run_within(self, budget: float, seed: int) -> Result:
        """Return the run of a seed that is as near to so many seconds as whole epochs come."""
        if not self.pace:
            self.pace = {epochs: self._run(seed, epochs)["seconds"] for epochs in (1, 2)}
        return nearest(partial(self._run, seed), budget, self.pace)

    def _run(self, seed: int, epochs: int) -> Result:
        tried = play(self._command, self._out / f"{self.name}-compute.json", self._options)
        asked = ["--compute", tried["compute"], "--seed", str(seed), "--epochs", str(epochs)]
        file = self._out / f"{self.name}-seed{seed}-epochs{epochs}.json"
        return play(self._command, file, self._options + asked)


def play(command: list[str], file: Path, options: list[str]) -> Result:
    """Run a contestant, which writes its result to a file; or read the file, if it is there."""
    if not file.exists():
        print(f"{file.stem} ...", file=sys.stderr, flush=True)
        part = file.with_suffix(".part")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        with file.with_suffix(".log").open("w") as log:
            done = subprocess.run(
                [*command, str(part), *options],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise SystemExit(f"{file.stem}: failed, see {log.name}")
        part.rename(file)
    result: Result = json.loads(file.read_text())
    return result


def nearest(run: Callable[[int], Result], budget: float, pace: dict[int, float]) -> Result:
    """Return the run whose seconds are nearest to the budget.

    Args:
        run: trains for so many epochs.
        budget: seconds.
        pace: the seconds of runs of two or more lengths, to which the new ones are added.
    """
    runs: dict[int, Result] = {}
    for _ in range(TRIES):
        epochs = fitting_epochs(budget, pace)
        if epochs in runs:
            break
        runs[epochs] = run(epochs)
        pace[epochs] = runs[epochs]["seconds"]
        if abs(pace[epochs] - budget) <= TOLERANCE * budget:
            break
    return min(runs.values(), key=lambda result: abs(result["seconds"] - budget))


def fitting_epochs(budget: float, pace: Mapping[int, float]) -> int:
    """Return how many epochs come nearest to the budget, at least 1.

    Seconds are taken to lie on the line through the shortest and the longest run.
    """
    (few, least), (many, most) = min(pace.items()), max(pace.items())
    # Where noise hides the time of an epoch, a share of the whole overrates it: a careful guess.
    epoch_s = (most - least) / (many - few) if most > least else most / many
    return max(1, min(round(few + (budget - least) / epoch_s), GROWTH * many))


def read_truth(cut: Path) -> dict[str, str]:
    """Return the class of each test image, by its path."""
    files = sorted((cut / "test").glob("*/*"))
    return {f"{file.parent.name}/{file.name}": file.parent.name for file in files}


@dataclass(frozen=True)
class Judge:
    """Test images, and the resamples on which contestants are compared.

    Attributes:
        images: paths.
        labels: n class numbers.
        classes: their names.
        resamples: r x n places of images.
    """

    images: list[str]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    resamples: npt.NDArray[np.intp]

    @classmethod
    def of(cls, truth: Mapping[str, str]) -> "Judge":
        """Make resamples that have as many images of each class as there are."""
        classes = sorted(set(truth.values()))
        labels = np.array([classes.index(name) for name in truth.values()])
        blocks = intervals.stratified_resamples(labels, RESAMPLES, seed=0)
        return cls(list(truth), labels, classes, np.concatenate(list(blocks)))

    def figures(self, results: Sequence[Result]) -> tuple[Floats, Floats]:
        """Return accuracy and macro-F1, means over results: 2, and on each resample 2 x r."""
        rows = np.vstack([np.arange(len(self.labels)), self.resamples])
        found = np.mean([_figures(self._answers(result), rows) for result in results], axis=0)
        return found[:, 0], found[:, 1:]

    def _answers(self, result: Result) -> Answers:
        """Return what a contestant said; only the class counts."""
        named = [self.classes.index(result["predictions"][image]) for image in self.images]
        return scores.answers(self.labels, np.eye(len(self.classes))[named])


def _figures(given: Answers, rows: npt.NDArray[np.intp]) -> Floats:
    """Return accuracy and macro-F1 on each row of images: 2 x r."""
    counts = Resamples(given, rows, bins=1)
    accuracy = counts.hits.sum(axis=1) / rows.shape[1]
    return np.stack([accuracy, scores.macro_f1(counts.hits, given.support, counts.predictions)])


def table(found: Mapping[str, Sequence[Result]], truth: Mapping[str, str]) -> str:
    """Return the contestants as a Markdown table.

    Args:
        found: the results of each, one for each seed.
        truth: the class of each test image.
    """
    answered = set(truth)
    for result in chain.from_iterable(found.values()):
        answered &= result["predictions"].keys()
    judge = Judge.of({image: label for image, label in truth.items() if image in answered})
    columns = ("contestant", "seconds", "epochs", "accuracy", "macro-F1")
    differences = ("accuracy minus Convoy's", "macro-F1 minus Convoy's")
    lines = [(*columns, *differences), ("---",) * (len(columns) + len(differences))]
    values, resampled = judge.figures(found[CONVOY])
    for name, results in found.items():
        own, own_resampled = judge.figures(results)
        gains = zip(own - values, own_resampled - resampled, strict=True)
        lines.append(
            (
                name,
                f"{np.mean([result['seconds'] for result in results]):.0f}",
                ", ".join(str(result["epochs"]) for result in results),
                *(f"{value:.3f}" for value in own),
                *(_difference(*gain) if name != CONVOY else "" for gain in gains),
            )
        )
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    left_out = len(truth) - len(answered)
    note = f", {left_out} more were left out by a contestant" if left_out else ""
    return f"{rows}\n\n{len(answered)} test images{note}. Seeds: {len(found[CONVOY])}."


def _difference(value: float, resampled: Floats) -> str:
    low, high = intervals.percentile_interval(resampled, value)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
