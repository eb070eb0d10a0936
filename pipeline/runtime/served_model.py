"""The registered model: MLflow runs this file to load it, so nothing is pickled.

It takes a table with a column `image` of image files as bytes (base64 through REST) and
returns one row per image: the class and the probability of every class.
"""

from pathlib import Path

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModelContext

from pipeline.vision.bundle import load_bundle
from pipeline.vision.classify import classify_bytes


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """Classifies image files with a bundle."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle that was logged with the model."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - part of MLflow's interface
        model_input: pd.DataFrame,
    ) -> pd.DataFrame:
        """Classify the files in the column `image`."""
        posteriors = classify_bytes(self.bundle, list(model_input["image"]))
        classes = self.bundle.classes
        table = pd.DataFrame(posteriors, columns=[f"p_{name}" for name in classes])
        table.insert(0, "class", [classes[i] for i in posteriors.argmax(axis=1)])
        return table


mlflow.models.set_model(ServedModel())
