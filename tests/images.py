"""Small folders of images, and params with other values."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.params import Params, load_params

_PARAMS = Path(__file__).parents[1] / "params.yaml"


def params_with(**sections: dict[str, Any]) -> Params:
    """Return params.yaml with other values in some sections."""
    params = load_params(_PARAMS)
    changed = {
        name: getattr(params, name).model_copy(update=values) for name, values in sections.items()
    }
    return params.model_copy(update=changed)


def noise(seed: int) -> Image.Image:
    """Return 20 x 20 pixels of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8))


def write_folder(root: Path, count: int = 30) -> Path:
    """Write images of the classes cat and dog in turn."""
    for number in range(count):
        path = root / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(path)
    return root
