"""The map of the latent space."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import new_figure
from pipeline.evaluation.plots._text import named

_MARKERS = "osD^vP*X"


def draw_map(
    points: npt.NDArray[np.float64],
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Draw each image as a point and name each class at its median point.

    Args:
        points: n x 2.
        labels: n class numbers.
        classes: k names. Colours and markers repeat beyond 20 classes; names do not.
        title: how the map was made.
    """
    k = len(classes)
    figure = new_figure(8.0, 7.0)
    axes = figure.add_subplot()
    colours = mpl.colormaps["tab10" if k <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    size = 16 if len(points) <= 3000 else 4
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for label, name in enumerate(classes):
        here = points[labels == label]
        if len(here) == 0:
            continue
        colour = colours[label % len(colours)]
        marker = _MARKERS[label // len(colours) % len(_MARKERS)]
        axes.scatter(
            here[:, 0], here[:, 1], size, color=colour, marker=marker, alpha=0.65, linewidths=0
        )
        middle = here[np.abs(here - np.median(here, axis=0)).sum(axis=1).argmin()]
        axes.annotate(
            named(name, 16),
            (middle[0], middle[1]),
            (0, 4),
            textcoords="offset points",
            fontsize=11 if k <= 20 else 6.5,
            ha="center",
            va="bottom",
            weight="bold",
            color="#222222",
            path_effects=halo,
            parse_math=False,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#cccccc")
    axes.set_title(title, loc="left", fontsize=10)
    return figure
