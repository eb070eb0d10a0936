"""Pictures. Each function takes plain values and returns a matplotlib figure; `save` writes one."""

from pipeline.evaluation.plots._style import save

__all__ = ["save"]
