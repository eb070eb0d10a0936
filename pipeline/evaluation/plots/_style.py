"""What all pictures share."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from pipeline.files import atomic_path

# Okabe and Ito's palette: told apart by people who see colours differently.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#8a8a8a"

DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this many inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, the same bytes for the same picture."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
