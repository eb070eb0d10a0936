"""The registered model: MLflow runs this file to load it, so nothing is pickled.

It takes a table with a column `image` of image files as bytes (base64 through REST) and
returns one row per image: the class and the probability of every class.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from pipeline.vision.bundle import load_bundle
from pipeline.vision.classify import classify_bytes


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """Classifies image files with a bundle."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that was logged with the model."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002
        """Classify the files in the column `image`."""
        posteriors = classify_bytes(self.bundle, list(model_input["image"]))
        classes = self.bundle.classes
        table = pd.DataFrame(posteriors, columns=[f"p_{name}" for name in classes])
        table.insert(0, "class", [classes[i] for i in posteriors.argmax(axis=1)])
        return table


mlflow.models.set_model(ServedModel())
