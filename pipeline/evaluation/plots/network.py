"""A network as pictures: the filters of its first layer, and the maps of one image."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import DPI, PAGE_WIDTH, show_image
from pipeline.evaluation.plots._text import ending
from pipeline.evaluation.plots.levels import Image

Maps = npt.NDArray[np.float32]

MAPS = 12  # in a row
_FILTERS_IN_ROW = 16
_FEW_FILTERS = 8  # are drawn larger
_MOST_FILTERS = 128
_GAP = 0.06  # inches
_LINE = 0.3  # height of a row's heading, inches
_COLOURS = 3
_PATH_WIDTH = 400.0  # points


def draw_filters(name: str, filters: Maps) -> Figure:
    """Draw the filters of the first layer.

    One-channel filters go from blue (negative) over white (0) to red, those of three channels
    show each weight as so much red, green or blue, with grey for 0.

    Args:
        name: of the layer.
        filters: filters x channels x height x width, 1 or 3 channels.
    """
    shown = filters[:_MOST_FILTERS]
    largest = float(np.abs(shown).max()) or 1.0
    columns = _FILTERS_IN_ROW if len(shown) > _FEW_FILTERS else _FEW_FILTERS
    side = (PAGE_WIDTH - _GAP) / columns - _GAP
    rows = -(-len(shown) // columns)
    height = _LINE + rows * (side + _GAP) + _GAP
    figure = Figure(figsize=(PAGE_WIDTH, height), dpi=DPI)
    _, channels, down, across = filters.shape
    part = "" if len(shown) == len(filters) else f"the first {len(shown)} of "
    heading = f"{name}: {part}{len(filters)} filters of {channels} x {down} x {across} weights"
    _write(figure, f"{heading}, up to ±{largest:.2g}", height)
    for place, one in enumerate(shown):
        row, column = divmod(place, columns)
        box = (
            _GAP + column * (side + _GAP),
            height - _LINE - (row + 1) * (side + _GAP),
            side,
            side,
        )
        axes = figure.add_axes(_shares(box, height))
        if channels == _COLOURS:
            axes.imshow(0.5 + np.moveaxis(one, 0, -1) / (2 * largest), interpolation="nearest")
        else:
            axes.imshow(one[0], cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    return figure


def draw_activations(
    image: Image, label: str, path: str, layers: Sequence[tuple[str, Maps, int]]
) -> Figure:
    """Draw an image, and beneath it the maps that layers make of it, from input to output.

    Args:
        image: height x width x channels, uint8 or uint16.
        label: its class.
        path: of its file.
        layers: name, channels x height x width of the maps to draw, and how many the layer has.
            Each layer goes from its smallest value (dark) to its largest (bright).
    """
    side = (PAGE_WIDTH - _GAP) / MAPS - _GAP
    tall = [side * _tallness(image.shape[:2])]
    tall += [side * _tallness(maps.shape[1:]) for _, maps, _ in layers]
    height = sum(tall) + len(tall) * (_LINE + _GAP) + _GAP
    figure = Figure(figsize=(PAGE_WIDTH, height), dpi=DPI)
    top = height
    shortened = ending(path, _PATH_WIDTH, _SIZE)
    _write(figure, f"test image {shortened}, of class {label}", top)
    axes = figure.add_axes(_shares((_GAP, top - _LINE - tall[0], side, tall[0]), height))
    show_image(axes, image)
    axes.set(xticks=[], yticks=[])
    top -= _LINE + tall[0] + _GAP
    for (name, maps, channels), high in zip(layers, tall[1:], strict=True):
        _, down, across = maps.shape
        part = "" if len(maps) == channels else f", the {len(maps)} that vary most"
        heading = f"{name}: {channels} maps of {down} x {across}{part}"
        _write(figure, f"{heading}; {maps.min():.2g} to {maps.max():.2g}", top)
        for column, one in enumerate(maps):
            box = (_GAP + column * (side + _GAP), top - _LINE - high, side, high)
            axes = figure.add_axes(_shares(box, height))
            axes.imshow(
                one, cmap="viridis", vmin=maps.min(), vmax=maps.max(), interpolation="nearest"
            )
            axes.set(xticks=[], yticks=[])
        top -= _LINE + high + _GAP
    return figure


_SIZE = 8.0  # points


def _tallness(shape: Sequence[int]) -> float:
    return min(2.0, shape[0] / shape[1])


def _shares(
    box: tuple[float, float, float, float], height: float
) -> tuple[float, float, float, float]:
    """Turn a box in inches into shares of a figure as wide as the page."""
    left, down, wide, high = box
    return left / PAGE_WIDTH, down / height, wide / PAGE_WIDTH, high / height


def _write(figure: Figure, text: str, top: float) -> None:
    """Write a heading whose line ends at `top` inches."""
    height = figure.get_figheight()
    place = _GAP / PAGE_WIDTH, (top - _GAP - 0.02) / height
    figure.text(*place, text, fontsize=_SIZE, va="top", parse_math=False)
