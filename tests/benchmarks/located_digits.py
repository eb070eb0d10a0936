"""Digits on clutter: are they found by a network that was never told where they are?

    python -m tests.benchmarks.located_digits FOLDER

Makes a project in FOLDER: grey images, each with one of scikit-learn's digits, enlarged and pasted
at a random place and size onto fragments of other digits. The manifest gives the class of each, and
boxes of validation and test images alone. No picture of a digit is in two splits. Then `dvc repro
localize` trains a small network whose global average feeds the head, and finds boxes.

The second part times the map of a large image: the fully convolutional network against the same
network on each window of the training size, at the map's stride. Of the windows a part is run, and
the time is scaled up to all.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.location.class_maps import ClassMaps
from pipeline.vision.location.located import WholeImages
from tests.contract.imports import ROOT
from tests.projects import change

SIDE = 48
SIZES = {"train": 4000, "val": 400, "test": 800}
PARTS = {"train": (0.0, 0.65), "val": (0.65, 0.78), "test": (0.78, 1.0)}  # of the digits
INK = 64
LARGE = 1024
WINDOWS = 4096  # that are timed
BLOCKS = [
    {"filters": 16, "kernel": 5, "stride": 2, "batch_norm": True},
    {"filters": 32, "kernel": 3, "stride": 2, "batch_norm": True},
    {"filters": 64, "kernel": 3, "batch_norm": True},
    {"filters": 64, "kernel": 3, "batch_norm": True},
    {
        "filters": 64,
        "kernel": 3,
        "batch_norm": True,
        "pool": {"kind": "average", "size": SIDE // 4, "stride": 1},  # the whole map, once
    },
]


def main():
    """Make the project, train, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)
    write_images(folder / "images", rng)
    write_project(folder, arguments.epochs)
    start = time.perf_counter()
    words = [sys.executable, "-m", "dvc", "repro", "localize"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(words, cwd=folder, env=environment, check=True)
    print(f"dvc repro localize took {time.perf_counter() - start:.0f} s")
    show(folder)
    time_maps(folder, rng)


def clutter(side, count, pictures, rng):
    """Return side x side px with fragments of digits: each a part of one, at a random place."""
    canvas = np.zeros((side, side), np.uint8)
    for _ in range(count):
        digit = enlarged(pictures[rng.integers(len(pictures))], rng)
        length = len(digit)
        height, width = rng.integers(length // 5, length // 2, 2)
        top, left = rng.integers(0, length - height), rng.integers(0, length - width)
        paste(canvas, digit[top : top + height, left : left + width], rng)
    return canvas


def enlarged(picture, rng):
    length = int(rng.integers(18, 33))
    return cv2.resize(picture, (length, length), interpolation=cv2.INTER_CUBIC)


def paste(canvas, part, rng):
    """Lay a part over the canvas, the brighter pixel wins; return its box."""
    height, width = part.shape
    top = int(rng.integers(0, len(canvas) - height + 1))
    left = int(rng.integers(0, len(canvas) - width + 1))
    place = canvas[top : top + height, left : left + width]
    np.maximum(place, part, out=place)
    return left, top, width, height


def paste_digit(canvas, picture, rng):
    """Paste a whole digit, cut to its ink; return its box."""
    digit = enlarged(picture, rng)
    (top, left), (bottom, right) = (f(np.argwhere(digit > INK), axis=0) for f in (np.min, np.max))
    return paste(canvas, digit[top : bottom + 1, left : right + 1], rng)


def with_noise(canvas, rng):
    return np.clip(canvas + rng.normal(0, 8, canvas.shape), 0, 255).astype(np.uint8)


def pictures_of(split):
    """Return the pictures (n x 8 x 8, uint8) and labels of the digits that a split has."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    low, high = (round(share * len(order)) for share in PARTS[split])
    rows = order[low:high]
    return np.clip(digits.images[rows] * 16, 0, 255).astype(np.uint8), digits.target[rows]


def write_images(folder, rng):
    """Write the images and their manifest."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    rows = []
    for split, size in SIZES.items():
        pictures, labels = pictures_of(split)
        (folder / split).mkdir()
        for number in range(size):
            label = number % 10
            picture = pictures[rng.choice(np.flatnonzero(labels == label))]
            canvas = clutter(SIDE, int(rng.integers(4, 9)), pictures, rng)
            box = paste_digit(canvas, picture, rng)
            path = f"{split}/{number:05d}.png"
            Image.fromarray(with_noise(canvas, rng)).save(folder / path)
            rows.append([path, label, split, *([""] * 4 if split == "train" else box)])
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "x", "y", "w", "h"], *rows])


def write_project(folder, epochs):
    """Write params.yaml and what `dvc repro` needs."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("pipeline", "infra"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(ROOT / name)
    (folder / ".dvc").mkdir(exist_ok=True)
    config = "[core]\n    analytics = false\n    no_scm = true\n"
    (folder / ".dvc" / "config").write_text(config)
    recipe = {
        "global_batch_size": 64,
        "precision": "fp32",
        "early_stopping": {"metric": "accuracy", "patience": 999, "min_delta": 0.0, "keep": "best"},
    }
    adamw = {"name": "adamw", "momentum": 0.9, "weight_decay": 0.01, "layer_decay": 1.0}
    change(folder, "data", root="images/list.csv")
    change(folder, "pack", height=SIDE, width=SIDE)
    change(folder, "model", name="plain", args={"blocks": BLOCKS})
    change(
        folder,
        "train",
        epochs=epochs,
        schedule={"name": "one_cycle"},
        optimizer=adamw | {"lr": 0.004},
        **recipe,
    )
    change(
        folder,
        "finetune",
        epochs=1,
        images="data/packed/train",
        mixup_alpha=0.0,
        optimizer=adamw | {"lr": 0.0001},
        **recipe,
    )
    change(folder, "tta", views=[{"identity": {}}])
    change(folder, "baseline", classifier="none")
    change(folder, "register", name="located-digits")
    change(folder, "resources", threads=1)


def show(folder):
    """Print the figures of test images, with 95 % intervals."""
    accuracy = json.loads((folder / "reports/evaluate.json").read_text())["final"]["test"]
    found = json.loads((folder / "reports/localize.json").read_text())
    boxes = found["boxes"]
    print(f"{boxes['test']} test images, {found['method']}, map of {found['places']} places")
    print(f"threshold {found['threshold']} of {boxes['validation']} validation images")
    rows = {"accuracy": accuracy["accuracy"]} | {
        name: value for name, value in boxes.items() if isinstance(value, dict)
    }
    for name, value in rows.items():
        low, high = value["ci95"]
        print(f"{name:26}{value['value']:.3f} [{low:.3f}, {high:.3f}]")


def time_maps(folder, rng):
    """Time the map of a large image against sliding windows, in this process.

    On one thread, by the processor's time: other work on the machine then changes little.
    """
    torch.set_num_threads(1)
    bundle = load_bundle(folder / "models/final")
    pictures, _ = pictures_of("test")
    canvas = clutter(LARGE, 1500, pictures, rng)
    for _ in range(20):
        paste_digit(canvas, pictures[rng.integers(len(pictures))], rng)
    large = with_noise(canvas, rng)
    Image.fromarray(large).save(folder / "large.png")
    maps = ClassMaps(bundle.network, bundle.description.shape)
    whole = WholeImages(bundle, maps)
    inputs = bundle.normalize(large[None, ..., None])
    seconds = []
    for _ in range(3):
        start = time.process_time()
        posteriors, _ = whole.look(inputs)
        seconds.append(time.process_time() - start)
    _, rows, columns = posteriors.shape
    stride = (LARGE - SIDE) // (rows - 1)
    start = time.process_time()
    with torch.inference_mode():
        done = 0
        for top in range(0, rows * stride, stride):
            lefts = range(0, columns * stride, stride)
            windows = [inputs[0, :, top : top + SIDE, left : left + SIDE] for left in lefts]
            bundle.network(torch.stack(windows)).softmax(dim=1)
            done += columns
            if done >= WINDOWS:
                break
    sliding = (time.process_time() - start) * rows * columns / done
    once = min(seconds)
    print(
        f"map of {LARGE} x {LARGE} px: {once:.2f} s; {rows * columns} windows of {SIDE} px every"
        f" {stride} px, from {done} of them: {sliding:.1f} s; {sliding / once:.0f} times faster"
    )


if __name__ == "__main__":
    main()
