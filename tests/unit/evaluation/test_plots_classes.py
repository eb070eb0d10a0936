"""One colour and marker for each class, in all pictures."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from pipeline.evaluation.metrics.precision_recall import Curve
from pipeline.evaluation.plots._classes import PALETTE, symbol
from pipeline.evaluation.plots.balance import histogram
from pipeline.evaluation.plots.map import draw_map
from pipeline.evaluation.plots.precision_recall import draw_precision_recall

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no long": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no middle": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def seen_as(colours, matrix):
    """Return CIELAB coordinates of colours, as someone of this colour vision sees them."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    white = np.sum(TO_XYZ, axis=1)
    xyz = np.clip(linear @ np.transpose(matrix), 0, 1) @ np.transpose(TO_XYZ) / white
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("vision", VISION)
def test_ten_classes_differ_for_every_colour_vision(vision):
    """Of matplotlib's default ten, two have a distance of 5."""
    colours = seen_as([symbol(number).colour for number in range(10)], VISION[vision])
    distances = [np.linalg.norm(one - two) for one, two in itertools.combinations(colours, 2)]
    assert min(distances) > 15


def test_symbols_repeat_beyond_a_hundred_classes_only():
    symbols = [symbol(number) for number in range(100)]
    assert len(set(symbols)) == 100
    assert len({one.marker for one in symbols[:10]}) == 10


@pytest.mark.parametrize("classes", [2, 3, 10, 36, 100])
def test_a_class_has_its_colour_in_every_picture(classes):
    names = [f"class {number}" for number in range(classes)]
    expected = {name: symbol(number).colour for number, name in enumerate(names)}
    labels = np.repeat(np.arange(classes), 3)
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    on_map = draw_map(points, labels, names, "title")
    drawn = [to_hex(part.get_facecolor()[0]) for part in on_map.axes[0].collections]
    assert drawn == list(expected.values())
    assert bool(on_map.legends) == (classes <= 20)
    if on_map.legends:
        (legend,) = on_map.legends
        rows = [text.get_text() for text in legend.get_texts()]
        assert rows == [f"{name} (3)" for name in names]
        assert [line.get_color() for line in legend.get_lines()] == list(expected.values())

    curve = Curve(np.array([0.5, 1.0]), np.array([1.0, 0.7]), np.array([0.9, 0.2]))
    average = {name: 1 - number / classes for number, name in enumerate(names)}
    (legend,) = draw_precision_recall(dict.fromkeys(names, curve), average, "title").legends
    rows = zip(legend.get_texts(), legend.get_lines(), strict=True)
    shown = {
        text.get_text()[7:]: line.get_color() for text, line in rows if "  " in text.get_text()
    }
    assert len(shown) == (classes if classes <= 10 else 6)
    assert shown.items() <= expected.items()

    # Most frequent first, that is from the last to the first.
    bars = histogram(names, np.arange(classes) + 1, np.ones(classes, int))
    drawn = [to_hex(bar.get_facecolor()) for axes in bars.axes for bar in axes.containers[0]]
    assert drawn == list(expected.values())[::-1]


def test_dvc_plots_have_the_same_colours():
    template = json.loads((Path(__file__).parents[3] / ".dvc/plots/by_class.json").read_text())
    colour = template["encoding"]["color"]
    assert colour["scale"]["range"] == list(PALETTE)
    assert colour["sort"] is None  # the order of the classes, which is that of the rows
    # The names of params become identifiers of Vega's expressions: a JavaScript keyword, such as
    # class, is an error there, and the plot stays empty.
    assert [one["name"] for one in template["params"]] == ["chosen"]


DRAW = """
from pathlib import Path
import numpy as np
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.confusion import draw_confusion
save(draw_confusion(np.eye(2, dtype=int), ["\u732b", "\U0001f408 cat"]), Path("a.png"))
"""


def test_names_in_any_script_are_drawn_without_a_word_on_the_console():
    """Where no installed font has their letters, they are boxes."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-W", "always", "-c", DRAW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    assert Path("a.png").stat().st_size > 0
