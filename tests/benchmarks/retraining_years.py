"""A year of weekly calls of `convoy retrain`, with poisoned data, drift, kills and overlaps.

    python -m tests.benchmarks.retraining_years [--images FOLDER] [--weeks 52] [--seed 0]
                                                [--output FOLDER]

A project begins with some of the images (scikit-learn's digits, or those of a folder of class
folders). Each week it gets 2 % more of those held back. Of 52 weeks, 10 bring poison, two of each
kind:

    shuffled    the labels within one class: its images, old and new, lie in other classes' folders
    mislabelled half of the new images have wrong labels
    blurred     the new images are out of focus
    renamed     a class has another name
    copies      near duplicates of test images have wrong labels

Three weeks bring true drift: the camera is another one from then on, and the model will meet images
of both kinds. Of what a person does there is no more than this: when a call is held back (exit code
5), the person repairs the poison, or agrees if there is none. Poison that was not held back is
repaired a week later.

20 calls, drawn at random, are killed (kill -9, the process alone) at a random moment, and called
again; 5 have a second call beside them.

The truth is what the models answer to a large set of images that the project never sees. A real
gain is a candidate that is better than the champion there, beyond the 95 % interval of the paired
difference. Prints a line for each week and a summary; draws the year.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.sample import load_digits
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots._style import BLUE, GREEN, GREY, ORANGE, calm, new_figure
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.benchmarks.growing_project import GROWTH, POISONS, Project
from tests.projects import change, convoy, run

CODES = {0: "promoted", 1: "failed", 3: "nothing", 4: "refused", 5: "held"}


@dataclass
class Week:
    """What happened in a week.

    Attributes:
        kind: 'gains', 'drift', or of the poison.
        codes: exit codes of the calls, in order.
        candidate, champion: share of right answers to the hidden images; None without a training.
        gain: candidate minus champion there, and its interval.
        macro_f1, brier: candidate minus champion on the project's own test images.
        killed, overlapped: whether a call was.
    """

    number: int
    kind: str
    images: int = 0
    new: int = 0
    codes: list[int] = field(default_factory=list)
    why: str = ""
    candidate: float | None = None
    champion: float | None = None
    gain: tuple[float, float, float] | None = None
    macro_f1: float | None = None
    brier: float | None = None
    killed: bool = False
    overlapped: bool = False
    seconds: float = 0.0

    @property
    def outcome(self):
        return CODES.get(self.codes[-1], "?") if self.codes else "?"


class Truth:
    """What models answer to the hidden images, as each camera so far sees them."""

    def __init__(self, project):
        self.project = project
        self.pixels = {}

    def right(self, bundle_folder):
        """Return whether each answer is right: hidden images by the cameras so far."""
        bundle = load_bundle(bundle_folder)
        found = []
        for camera in range(self.project.camera + 1):
            files = sorted((self.project.folder / "hidden" / str(camera)).rglob("*.png"))
            key = camera, bundle.preprocessing
            if key not in self.pixels:
                self.pixels[key] = np.stack(
                    [preprocess_file(file, bundle.preprocessing) for file in files]
                )
            answers = probabilities(bundle, [self.pixels[key]]).argmax(axis=1)
            names = [bundle.classes[answer] for answer in answers]
            found.append([n == file.parent.name for n, file in zip(names, files, strict=True)])
        return np.array(found, float).mean(axis=0)


def difference(candidate, champion):
    """Return the mean of candidate - champion and its 95 % interval."""
    gain = candidate - champion
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    return float(gain.mean()), float(gain.mean() - half), float(gain.mean() + half)


def plan_year(weeks, seed):
    """Return the kind of each week, from 1, and which are killed and overlapped."""
    draw = random.Random(seed)
    special = draw.sample(range(2, weeks + 1), min(13, weeks - 1))
    kinds = dict.fromkeys(range(1, weeks + 1), "gains")
    names = [*POISONS, *POISONS, *["drift"] * 3][: len(special)]
    kinds |= dict(zip(special, names, strict=True))
    killed = set(draw.sample(range(1, weeks + 1), min(20, weeks)))
    overlapped = set(draw.sample(range(1, weeks + 1), min(5, weeks)))
    return kinds, killed, overlapped


def history(folder):
    file = folder / ".convoy/runs/retraining/year/history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def call(project, *words, kill_after_s=None, overlapped=False):
    """Make a call; return its exit code, or None where it was killed before its end."""
    log = (project.folder / "calls.log").open("a")
    process = convoy(project.folder, "retrain", *words, stdout=log, stderr=subprocess.STDOUT)
    second = None
    if overlapped:
        time.sleep(2.0)
        second = run(project.folder, "retrain")
    if kill_after_s is not None:
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None, second
    return process.wait(1800), second


def live(project, truth, week, draw, typical_s):
    """Live through a week."""
    begin_s = time.monotonic()
    folder = project.folder
    best = folder / "best"
    if week.killed:
        code, _ = call(project, kill_after_s=draw.uniform(0.5, typical_s))
        week.killed = code is None
        if code is not None:
            week.codes.append(code)
    if not week.codes:
        code, second = call(project, overlapped=week.overlapped)
        week.codes.append(code)
        if second and second[0] != 3 and "another call" not in second[1]:
            print(f"  the second call ended with {second[0]}: {second[1][-200:]}")
    if week.codes[-1] == 5:
        poisoned = week.kind in POISONS
        week.why = history(folder)[-1]["reasons"][0]["key"]
        if poisoned:
            project.repair()
        words = () if poisoned else ("--accept",)
        week.codes.append(call(project, *words)[0])
    trained = week.codes[-1] in (0, 4)
    if trained:
        candidate = truth.right(folder / "models/final")
        week.candidate = float(candidate.mean())
        if best.exists():
            champion = truth.right(best)
            week.gain = difference(candidate, champion)
            compared = json.loads((folder / "reports/register.json").read_text())["comparison"]
            week.macro_f1, week.brier = (compared[name]["value"] for name in ("macro_f1", "brier"))
    if week.codes[-1] == 0:
        shutil.rmtree(best, ignore_errors=True)
        shutil.copytree(folder / "models/final", best)
    week.champion = float(truth.right(best).mean())
    last = history(folder)[-1]
    if last["changes"]:
        week.images, week.new = last["changes"]["images"], last["changes"]["new"]
    week.seconds = time.monotonic() - begin_s


def describe(week):
    gain = ""
    if week.gain:
        gain = "gain {:+.3f} [{:+.3f}, {:+.3f}]".format(*week.gain)
    candidate = "     " if week.candidate is None else f"{week.candidate:.3f}"
    marks = f"{'killed ' if week.killed else ''}{'overlapped' if week.overlapped else ''}"
    codes = " ".join(map(str, week.codes))
    return (
        f"{week.number:3} {week.kind:11} {week.images:5} images {week.new:3} new  exit {codes:5}"
        f" {week.why:14} candidate {candidate} champion {week.champion:.3f} {gain:32} {marks}"
        f" {week.seconds:.0f} s"
    )


def summarise(weeks, calls):
    """Print what the goals are about."""
    poisoned = [week for week in weeks if week.kind in POISONS]
    # The first call of a week met the poison; a second one, what was repaired.
    promoted = [week for week in poisoned if week.codes[0] == 0]
    gains = [week for week in weeks if week.gain and week.gain[1] > 0 and week not in promoted]
    losses = [week for week in weeks if week.gain and week.gain[2] < 0]
    compared = [week for week in weeks if week.gain]
    truth, by_f1, by_brier = (
        np.array([of(week) for week in compared])
        for of in (lambda w: w.gain[0], lambda w: w.macro_f1, lambda w: -w.brier)
    )
    champions = np.array([week.champion for week in weeks])
    below = np.maximum.accumulate(champions) - champions
    ended = [week for week in weeks if week.codes and week.codes[-1] in (0, 3, 4)]
    grown = [week for week in weeks if week.kind == "gains" and week.codes[0] == 5]
    drifted = [week for week in weeks if week.kind == "drift"]

    def count(some_weeks, code, call=-1):
        return sum(week.codes[call] == code for week in some_weeks)

    print(
        f"poisoned weeks: {len(poisoned)}, held back {count(poisoned, 5, 0)}, refused"
        f" {count(poisoned, 4, 0)}, promoted {len(promoted)}"
    )
    print(f"real gains: {len(gains)}, promoted {count(gains, 0)}")
    print(f"real losses: {len(losses)}, promoted {count(losses, 0)}")
    print(
        f"the gain of {len(compared)} candidates correlates with macro-F1 on the project's test"
        f" images at {np.corrcoef(truth, by_f1)[0, 1]:.2f}, with the Brier score at"
        f" {np.corrcoef(truth, by_brier)[0, 1]:.2f}"
    )
    print(
        f"champion: {champions[0]:.3f} at first, {champions[-1]:.3f} at the end, at most"
        f" {below.max():.3f} below the best so far"
    )
    print(f"weeks of drift: {len(drifted)}, held back {count(drifted, 5, 0)}")
    print(f"weeks of growth alone that were held back: {len(grown)} {[week.why for week in grown]}")
    print(
        f"weeks that ended: {len(ended)} of {len(weeks)}; killed {sum(w.killed for w in weeks)},"
        f" overlapped {sum(w.overlapped for w in weeks)}; {len(calls)} lines of the history"
    )


def draw_year(weeks, file):
    figure = new_figure(9.5, 4.8)
    axes = figure.subplots()
    at = [week.number for week in weeks]
    axes.step(at, [week.champion for week in weeks], where="post", color=GREEN, label="champion")
    for outcome, colour, marker in (("promoted", GREEN, "o"), ("refused", ORANGE, "v")):
        of = [week for week in weeks if week.outcome == outcome and week.candidate is not None]
        axes.scatter(
            [week.number for week in of],
            [week.candidate for week in of],
            color=colour,
            marker=marker,
            s=24,
            zorder=3,
            label=f"candidate, {outcome}",
        )
    bottom = min(week.champion for week in weeks) - 0.02
    for week in weeks:
        if week.kind != "gains":
            colour = BLUE if week.kind == "drift" else ORANGE
            axes.axvline(week.number, color=colour, linewidth=5, alpha=0.18)
            place = {"rotation": 90, "fontsize": 7, "va": "bottom", "ha": "center"}
            axes.text(week.number, bottom, week.kind, **place)
        if week.killed:
            axes.plot(week.number, bottom - 0.008, marker="x", color=GREY, markersize=5)
    axes.plot([], [], linestyle="none", marker="x", color=GREY, label="a call was killed")
    axes.set_xlabel("week")
    axes.set_ylabel("right answers to hidden images")
    axes.legend(fontsize=8, loc="upper left")
    calm(axes)
    save(figure, file)


def read_images(folder):
    """Return the pictures of a folder of class folders, and their classes."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg"))
    return [Image.open(path).convert("RGB") for path in files], [path.parent.name for path in files]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of class folders; else digits")
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="keep the project and the picture here")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=JSON")
    options = parser.parse_args()
    if options.images:
        pictures, labels = read_images(options.images)
    else:
        pictures, numbers = load_digits()
        labels = [f"digit {number}" for number in numbers]
    with tempfile.TemporaryDirectory() as name:
        folder = options.output or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        project = Project(folder, pictures, labels, options.seed)
        project.begin(options.weeks)
        for setting in options.set:
            key, _, value = setting.partition("=")
            section, _, inner = key.partition(".")
            change(folder, section, **{inner: json.loads(value)})
        weeks = live_through(project, options.weeks, options.seed)
        print()
        summarise(weeks, history(folder))
        draw_year(weeks, folder / "year.png")


def live_through(project, count, seed):
    kinds, killed, overlapped = plan_year(count, seed)
    truth, draw = Truth(project), random.Random(seed)
    weeks, typical_s = [], 30.0
    first = Week(0, "gains")
    live(project, truth, first, draw, typical_s)
    print(describe(first), flush=True)
    typical_s = first.seconds
    for number in range(1, count + 1):
        kind = kinds[number]
        if kind == "drift":
            project.camera += 1
        project.repair()  # what no call has held back
        week = Week(number, kind, killed=number in killed, overlapped=number in overlapped)
        new = project.take(max(round(GROWTH * len(project.images())), 1))
        if kind in POISONS:
            project.poison(kind, new)
        else:
            project.put(new)
        live(project, truth, week, draw, typical_s)
        print(describe(week), flush=True)
        weeks.append(week)
    return weeks


if __name__ == "__main__":
    sys.exit(main())
