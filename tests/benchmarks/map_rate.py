"""Frames per second of the map page in Chromium while it is moved and zoomed; and its size.

    python -m tests.benchmarks.map_rate             # 50,000 images of 100 classes, two minutes
    python -m tests.benchmarks.map_rate --save map.html

Photographs are stood in for by blurred noise with edges, as hard to compress. The mouse is
Chromium's own (Input.dispatchMouseEvent), frames are counted by requestAnimationFrame. Chromium
runs without a window and draws without a graphics card; the limit is then 60 frames per second.
What else the machine does takes frames away; the processor's time per frame, in the thread that
runs the page, is printed too.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.evaluation.map import (
    MapPoints,
    make_thumbnails,
    render_map,
    room_for_thumbnails,
    spread,
)
from tests.browser import Browser, started

SIDE = 32
# Counts frames.
COUNT = """
(() => {
  window.frames_ = [];
  const next = now => { window.frames_.push(now); requestAnimationFrame(next); };
  requestAnimationFrame(next);
})()
"""


def main() -> None:
    """Make a page, open it, move in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each movement")
    parser.add_argument("--save", type=Path, help="keep the page here")
    parser.add_argument("--page", type=Path, help="measure this page, and make none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.page or arguments.save or Path(folder) / "map.html"
        if not arguments.page:
            path.write_text(make_page(arguments.images, arguments.classes), encoding="utf-8")
            print(f"{arguments.images} images of {arguments.classes} classes")
        print(f"{path.stat().st_size / 1e6:.2f} MB")
        with started() as browser:
            for width, height in ((1280, 800), (400, 850)):
                measure(browser, path.resolve(), (width, height), arguments.seconds)
        print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def make_page(images: int, classes: int) -> str:
    """Draw clusters of unequal size that overlap, with mistakes among neighbours."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.choice(classes, images, p=rng.dirichlet(np.full(classes, 5.0))))
    middles, spreads = rng.uniform(-50, 50, (classes, 2)), rng.uniform(1, 5, (classes, 1))
    places = middles[labels] + spreads[labels] * rng.normal(size=(images, 2))
    wrong = rng.random(images) < 0.1
    points = MapPoints(
        classes=[f"class number {label}" for label in range(classes)],
        paths=[f"class_{label:03d}/photograph_{i:06d}.jpg" for i, label in enumerate(labels)],
        labels=labels,
        places=places,
        sets=["test"],
        of_set=np.zeros(images, np.int64),
        answers=np.where(wrong, (labels + 1) % classes, labels),
        probabilities=rng.uniform(0.3, 1, images),
    )
    room, order = room_for_thumbnails(points), spread(labels, 0)
    thumbnails = make_thumbnails(photographs, np.arange(images), order, room)
    drawn = int((thumbnails.numbers >= 0).sum())
    print(f"{drawn} thumbnails of {thumbnails.height} x {thumbnails.width} px")
    return render_map(points, thumbnails, f"{images} images", ["Made by a benchmark."])


def photographs(rows: np.ndarray) -> np.ndarray:
    """Return n x 32 x 32 x 3: noise of several grains, and an edge."""
    made = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    for image, row in zip(made, rows, strict=True):
        rng = np.random.default_rng(int(row))
        levels = sum(
            cv2.resize(rng.normal(0, 26, (grain, grain, 3)), (SIDE, SIDE)) for grain in (3, 8, 32)
        )
        levels[:, int(rng.integers(8, 24)) :] += rng.normal(0, 40, 3)
        image[:] = np.clip(128 + levels, 0, 255)
    return made


def measure(browser: Browser, path: Path, size: tuple[int, int], seconds: float) -> None:
    """Print frames per second of each movement, in a window of this size."""
    browser.open(path.as_uri(), width=size[0], height=size[1])
    while "shown" not in browser.ask("document.getElementById('count').textContent"):
        time.sleep(0.05)
    browser.ask(COUNT)
    browser.call("Performance.enable", timeDomain="threadTicks")
    x0, y0, width, height = browser.ask(
        "(b => [b.left, b.top, b.width, b.height])"
        "(document.getElementById('points').getBoundingClientRect())"
    )
    x, y = x0 + width / 2, y0 + height / 2

    def mouse(kind: str, x: float, y: float, **more: object) -> None:
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def pan(turn: float) -> None:
        held = {"button": "left", "buttons": 1}
        reach = min(width, height) / 4
        mouse("mouseMoved", x + reach * math.sin(turn), y + reach * math.cos(turn), **held)

    def zoom(turn: float) -> None:
        mouse("mouseWheel", x, y, deltaX=0, deltaY=-60 if math.sin(turn / 3) > 0 else 60)

    def hover(turn: float) -> None:
        mouse("mouseMoved", x + width / 4 * math.sin(turn), y + height / 4 * math.cos(turn))

    def busy() -> float:
        metrics = browser.call("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    def watch(name: str, move: Callable[[float], None]) -> None:
        browser.ask("window.frames_.length = 0")
        begin = busy()
        end, turn = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            move(turn)
            turn += 0.1
        frames = np.diff(browser.ask("window.frames_"))
        spent = 1000 * (busy() - begin) / len(frames)
        print(
            f"{size[0]} x {size[1]} {name}: {1000 * len(frames) / frames.sum():.0f} frames/s, the"
            f" slowest of 20 {np.percentile(frames, 95):.0f} ms; processor {spent:.1f} ms a frame"
        )

    mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    watch("pan, all points", pan)
    mouse("mouseReleased", x, y, button="left", clickCount=1)
    watch("zoom in and out", zoom)
    watch("hover", hover)


if __name__ == "__main__":
    main()
