"""params.yaml as frozen, validated objects."""

from pipeline.params._load import load_params
from pipeline.params._mistakes import MistakesError, parse
from pipeline.params._recipe import Recipe
from pipeline.params._retrain import Hold, Retrain, When
from pipeline.params._schema import (
    JOINED,
    Balance,
    Baseline,
    Data,
    Embed,
    Evaluate,
    Index,
    Pack,
    Params,
    Register,
    Report,
    Resources,
    Sample,
    Split,
    Start,
    Tracking,
    Tta,
)
from pipeline.params._types import misfits

__all__ = [
    "JOINED",
    "Balance",
    "Baseline",
    "Data",
    "Embed",
    "Evaluate",
    "Hold",
    "Index",
    "MistakesError",
    "Pack",
    "Params",
    "Recipe",
    "Register",
    "Report",
    "Resources",
    "Retrain",
    "Sample",
    "Split",
    "Start",
    "Tracking",
    "Tta",
    "When",
    "load_params",
    "misfits",
    "parse",
]
