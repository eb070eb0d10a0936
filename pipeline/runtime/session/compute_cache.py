"""The outcome of trials, kept on this machine: a training that goes on computes as before.

Without it, a training that goes on after a kill might use another number of threads, round in
another way, and two equal trainings might not give equal bundles.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.files import write_json
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.digest import values_digest
from pipeline.vision.training.compute_config import ComputeConfig


def cached_compute(
    folder: Path, question: Mapping[str, Any], choose: Callable[[], ComputeConfig]
) -> ComputeConfig:
    """Return what was chosen for `question` before, or else `choose()`, and keep that.

    Args:
        folder: where choices are kept.
        question: JSON values: all that the choice may depend on.
        choose: runs the trial.
    """
    file = folder / f"{values_digest(dict(question))[:16]}.json"
    try:
        values = json.loads(file.read_text())
        return ComputeConfig(Arithmetic.of(values["arithmetic"]), int(values["threads"]))
    except (OSError, ValueError, TypeError, KeyError):  # never asked, or damaged
        choice = choose()
    write_json(file, asdict(choice))
    return choice
