"""Pictures. Each function takes plain values and returns a matplotlib figure.

`save` writes a figure, `to_png` returns what it would write. `symbol` is how a class is drawn.
"""

from pipeline.evaluation.plots._classes import symbol
from pipeline.evaluation.plots._style import save, to_png

__all__ = ["save", "symbol", "to_png"]
