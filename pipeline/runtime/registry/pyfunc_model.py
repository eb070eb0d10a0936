"""The registered model: MLflow runs this file to load it, so nothing is pickled.

It takes a table with one row per image and one of the columns

- `image`: the image file's bytes, or the same in base64,
- `path`: of an image file in the folder that the environment variable CONVOY_SERVED_FOLDER names;
  without it, no path is read,
- `pixels`: height x width (grey) or height x width x 3 (RGB) whole numbers 0 to 255,

and returns one row per image: the class and the probability of every class.
"""

import base64
import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModelContext

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.images.strict import verify
from pipeline.data.packing.preprocess import MAX_PIXELS, fit_pixels, preprocess, preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities

_FOLDER = "CONVOY_SERVED_FOLDER"
_LONGEST = 400  # characters of a message


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
    if not isinstance(table, pd.DataFrame):
        raise MlflowException.invalid_parameter_value(
            "expected a table of images: dataframe_records or dataframe_split"
        )
    given = [name for name in _READERS if name in table and table[name].notna().any()]
    if len(given) != 1:
        raise MlflowException.invalid_parameter_value(
            f"expected one of the columns {', '.join(_READERS)}, found"
            f" {' and '.join(given) or 'none'}"
        )
    return given[0]


def _read_bytes(value: Any, preprocessing: Preprocessing) -> npt.NDArray[Any]:
    if isinstance(value, str):
        try:
            value = base64.b64decode("".join(value.split()), validate=True)
        except ValueError as error:
            raise UnusableImageError(f"expected base64: {error}") from error
    if not isinstance(value, bytes):
        found = type(value).__name__
        raise UnusableImageError(f"expected the bytes of an image file in base64, found {found}")
    verify(value, MAX_PIXELS)
    return preprocess(value, preprocessing)


def _read_file(value: Any, preprocessing: Preprocessing) -> npt.NDArray[Any]:
    if not isinstance(value, str):
        raise UnusableImageError(f"expected the path of a file, found {type(value).__name__}")
    if not os.environ.get(_FOLDER):
        raise UnusableImageError(
            "paths are not read here; send the bytes of the file in the column image, or set"
            f" {_FOLDER} where the model runs to the only folder to read from"
        )
    folder = Path(os.environ[_FOLDER]).resolve()
    try:
        path = (folder / value).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a loop of links
        raise UnusableImageError(f"not a path: {error}") from error
    if not path.is_relative_to(folder):
        raise UnusableImageError(f"{value}: not in the folder that {_FOLDER} names")
    return preprocess_file(path, preprocessing)


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


def _answer_in_one_line(server: ModuleType) -> None:
    """Have MLflow's server answer a request that it cannot use with one line.

    By itself it puts the request in front of what `predict` raises, adds a stack trace where a body
    cannot be parsed, and has nothing to say of nested lists that are too deep. All of that happens
    outside the model.

    Args:
        server: `mlflow.pyfunc.scoring_server`.
    """
    invocations = server.invocations

    def answer(data: bytes, content_type: str | None, *others: Any) -> Any:
        try:
            return invocations(data, content_type or "", *others)
        except Exception as error:
            if not isinstance(error, MlflowException):
                error = MlflowException(error, BAD_REQUEST)
            if trace := error.json_kwargs.get("stack_trace"):
                logging.getLogger(__name__).warning(trace)
            words = " ".join(str(error).partition("\nInput:")[0].split())
            said = words[:_LONGEST] + ("..." if len(words) > _LONGEST else "")
            body = json.dumps({"error_code": error.error_code, "message": said})
            status = error.get_http_status_code()
            return server.InvocationsResponse(body, status, "application/json")

    server.invocations = answer  # type: ignore[attr-defined]


if "mlflow.pyfunc.scoring_server.app" in sys.modules:  # which loads the model as it starts
    _answer_in_one_line(sys.modules["mlflow.pyfunc.scoring_server"])
mlflow.models.set_model(ServedModel())
