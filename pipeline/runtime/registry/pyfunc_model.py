"""The registered model: MLflow runs this file to load it, so nothing is pickled.

It takes a table with one row per image and one of the columns

- `image`: the image file's bytes (base64 through REST),
- `path`: of an image file on the machine that serves,
- `pixels`: height x width (grey) or height x width x 3 (RGB) whole numbers 0 to 255,

and returns one row per image: the class and the probability of every class.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModelContext

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.images.strict import verify
from pipeline.data.packing.preprocess import MAX_PIXELS, fit_pixels, preprocess, preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """Classifies images with a bundle."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle that was logged with the model."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - part of MLflow's interface
        model_input: pd.DataFrame,
    ) -> pd.DataFrame:
        """Classify the images in the table.

        Raises:
            MlflowException: one of them cannot be used; a server answers with status 400.
        """
        name = _column(model_input)
        images = []
        for position, value in enumerate(model_input[name]):
            try:
                images.append(_READERS[name](value, self.bundle.preprocessing))
            except UnusableImageError as error:
                message = f"image {position}: {error}"
                raise MlflowException.invalid_parameter_value(message) from error
        pieces = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
        posteriors = probabilities(self.bundle, map(np.stack, pieces))
        classes = self.bundle.classes
        table = pd.DataFrame(posteriors, columns=[f"p_{name}" for name in classes])
        table.insert(0, "class", [classes[i] for i in posteriors.argmax(axis=1)])
        return table


def _column(table: pd.DataFrame) -> str:
    """Return the name of the column that holds the images."""
    given = [name for name in _READERS if name in table and table[name].notna().any()]
    if len(given) != 1:
        raise MlflowException.invalid_parameter_value(
            f"expected one of the columns {', '.join(_READERS)}, found"
            f" {' and '.join(given) or 'none'}"
        )
    return given[0]


def _read_bytes(value: Any, preprocessing: Preprocessing) -> npt.NDArray[Any]:
    if not isinstance(value, bytes):
        raise UnusableImageError(f"expected bytes of an image file, found {type(value).__name__}")
    verify(value, MAX_PIXELS)
    return preprocess(value, preprocessing)


def _read_file(value: Any, preprocessing: Preprocessing) -> npt.NDArray[Any]:
    if not isinstance(value, str):
        raise UnusableImageError(f"expected the path of a file, found {type(value).__name__}")
    return preprocess_file(Path(value), preprocessing)


def _read_pixels(value: Any, preprocessing: Preprocessing) -> npt.NDArray[Any]:
    return fit_pixels(_as_pixels(value), preprocessing)


def _as_pixels(value: Any) -> npt.NDArray[np.uint8]:
    """Turn numbers, nested lists of them, or an array into height x width x channels."""
    try:
        pixels = np.asarray(value if isinstance(value, np.ndarray) else np.array(list(value)))
    except (TypeError, ValueError) as error:
        raise UnusableImageError("pixels: expected rows of equal length") from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    whole = pixels.dtype.kind in "iu" and pixels.size and 0 <= pixels.min() <= pixels.max() <= 255
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not whole:
        raise UnusableImageError(
            "pixels: expected height x width or height x width x 3 whole numbers 0 to 255, found"
            f" {pixels.dtype} of shape {pixels.shape}"
        )
    return np.ascontiguousarray(pixels, np.uint8)


_READERS = {"image": _read_bytes, "path": _read_file, "pixels": _read_pixels}

mlflow.models.set_model(ServedModel())
