"""The outcome of trials, remembered: asked again, a training computes in the same way.

Without that memory, a training that goes on after a kill might round in another way than before,
and two equal trainings might not give equal bundles.
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


def remembered(
    folder: Path, question: Mapping[str, Any], choose: Callable[[], ComputeConfig]
) -> ComputeConfig:
    """Return what was chosen for `question` before, or else `choose()`, and remember that.

    Args:
        folder: where answers are kept.
        question: JSON values: all that the choice may depend on.
        choose: holds the trial.
    """
    file = folder / f"{values_digest(dict(question))[:16]}.json"
    try:
        values = json.loads(file.read_text())
        return ComputeConfig(Arithmetic.of(values["arithmetic"]), values["threads"])
    except (OSError, ValueError, TypeError, KeyError):  # never asked, or damaged
        choice = choose()
    write_json(file, asdict(choice))
    return choice
