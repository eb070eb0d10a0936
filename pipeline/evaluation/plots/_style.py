"""What all pictures share."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.evaluation.plots._fonts import families, missing_letters
from pipeline.evaluation.plots.levels import Image, white_of
from pipeline.files import atomic_path

# Okabe and Ito's palette, which people with colour blindness can distinguish.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#8a8a8a"

PAGE_WIDTH = 9.5  # inches; the page shows pictures up to this width as they were drawn
# Half as fine again as a page is laid out in, for screens that show more than a page asks for.
DPI = 144


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this many inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def calm(axes: Axes) -> None:
    """Leave of the frame what curves need, and lay a faint grid behind them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def show_image(axes: Axes, image: Image) -> None:
    """Draw height x width x channels, uint8 or uint16, from black to white."""
    levels = image.astype(np.float32) / white_of(image)
    flat = levels[..., 0] if image.shape[2] == 1 else levels
    axes.imshow(flat, cmap="gray", vmin=0.0, vmax=1.0)


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG, the same bytes for the same picture.

    Letters that the default font lacks are drawn with an installed font that has them, or as boxes
    where there is none.
    """
    try:
        with missing_letters("error"):
            return _draw(figure)
    except UserWarning:
        for text in figure.findobj(Text):
            default, *others = families(text.get_text())
            if others:  # which need not have a bold face
                text.set(fontfamily=[default, *others], fontweight="normal")
    with missing_letters("ignore"):
        return _draw(figure)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_png(figure))


def _draw(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
