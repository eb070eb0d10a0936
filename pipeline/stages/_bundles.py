"""Models and the images that they are judged on."""

from pathlib import Path

import torch

from pipeline.data.shards.shards import SetInfo
from pipeline.errors import PipelineError
from pipeline.vision.inference.bundle import Bundle, load_bundle


def load_matching(folder: Path, info: SetInfo) -> Bundle:
    """Load a bundle, on the GPU if there is one, and make sure that it was trained for `info`.

    Raises:
        PipelineError: no bundle there, or one for other classes or another preprocessing.
    """
    bundle = load_bundle(folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for what, expected, found in (
        ("classes", info.classes, bundle.classes),
        ("preprocessing", info.preprocessing, bundle.preprocessing),
    ):
        if expected != found:
            raise PipelineError(
                f"{folder} was trained for other {what} than the packed images: expected"
                f" {expected}, found {found}; run dvc repro to train again"
            )
    return bundle
