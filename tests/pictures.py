"""Pictures that are drawn at random and look alike: strokes, line drawings, X-ray-like ones."""

import io
import itertools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_FINER = 8  # drawn so many times larger, then averaged: edges are smooth as in scans


def stroke(seed: int, side: int = 28) -> Image.Image:
    """One upright stroke, white on black, in the middle, as a handwritten 1 in MNIST."""
    rng = np.random.default_rng([1, seed])
    steps = np.linspace(-0.5, 0.5, 40)
    tremble = np.interp(steps, np.linspace(-0.5, 0.5, 6), rng.normal(0, 0.008, 6))
    xs = 0.5 - rng.normal(0.12, 0.12) * steps + rng.normal(0, 0.02) * (1 - 4 * steps**2) + tremble
    ys = 0.5 + rng.uniform(0.62, 0.74) * steps
    pressure = np.interp(steps, np.linspace(-0.5, 0.5, 4), rng.uniform(0.8, 1.2, 4))
    radii = rng.uniform(0.035, 0.07) * pressure
    large = side * _FINER
    picture = Image.new("L", (large, large))
    draw = ImageDraw.Draw(picture)
    for x, y, radius in zip(xs * large, ys * large, radii * large, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return picture.resize((side, side), Image.Resampling.BOX)


def line_drawing(seed: int, side: int = 128) -> Image.Image:
    """A house with a door and a tree, black on white; each line trembles in its own way."""
    rng = np.random.default_rng([2, seed])
    large = side * 4
    picture = Image.new("L", (large, large), 255)
    draw = ImageDraw.Draw(picture)
    lines = [
        [(0.2, 0.85), (0.2, 0.45), (0.4, 0.25), (0.6, 0.45), (0.6, 0.85), (0.2, 0.85)],
        [(0.35, 0.85), (0.35, 0.65), (0.45, 0.65), (0.45, 0.85)],
        [(0.78, 0.85), (0.78, 0.6), (0.7, 0.5), (0.78, 0.4), (0.86, 0.5), (0.78, 0.6)],
    ]
    for line in lines:
        ends = np.array(line) + rng.normal(0, 0.008, (len(line), 2))
        steps = np.linspace(0, 1, 12)[:, None]
        pairs = itertools.pairwise(ends)
        points = np.concatenate([a + (b - a) * steps for a, b in pairs])
        points += rng.normal(0, 0.002, points.shape)
        draw.line([tuple(p) for p in points * large], 0, round(large * rng.uniform(0.008, 0.014)))
    return picture.resize((side, side), Image.Resampling.BOX)


def xray(seed: int, side: int = 160) -> Image.Image:
    """A chest: two dark lungs with ribs, spine and heart, in soft greys with the film's grain."""
    rng = np.random.default_rng([3, seed])
    y, x = np.mgrid[0:side, 0:side] / side

    def blob(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        cx, cy, rx, ry = np.array([cx, cy, rx, ry]) * (1 + rng.normal(0, 0.03, 4))
        distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 - 1
        return 1 / (1 + np.exp(12 * distance.clip(-4, 4)))

    lungs = blob(0.32, 0.45, 0.15, 0.3) + blob(0.68, 0.45, 0.15, 0.3)
    ribs = np.sin(
        2 * np.pi * (y * rng.normal(10, 0.4) + 1.5 * (x - 0.5) ** 2 + rng.uniform(0, 0.3))
    )
    grey = 60 + 110 * blob(0.5, 0.5, 0.42, 0.55) - 75 * lungs + 9 * ribs * lungs
    grey += 45 * np.exp(-(((x - 0.5) / 0.04) ** 2)) + 40 * blob(0.55, 0.62, 0.13, 0.14)
    for _ in range(rng.integers(0, 4)):  # what a doctor looks for: small shadows
        grey += rng.uniform(10, 30) * blob(*rng.uniform(0.25, 0.7, 2), 0.04, 0.04)
    grey = grey * rng.uniform(0.9, 1.1) + rng.normal(0, 3, grey.shape)
    picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def recompressed(picture: Image.Image, quality: int = 60) -> Image.Image:
    """The picture after a JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)
