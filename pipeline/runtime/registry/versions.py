"""The model registry: a bundle becomes a version once, and can be fetched back."""

import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import PipelineError, did_you_mean
from pipeline.files import fresh_folder
from pipeline.params import Tracking
from pipeline.runtime.tracking.checkpoints import EPOCH_TAG, is_ready, logged_models
from pipeline.runtime.tracking.store import (
    BUNDLE_TAG,
    as_default,
    connect,
    explained,
    one_at_a_time,
    open_client,
    shown,
    tracking_uri,
)
from pipeline.vision.bundle.description import Description, read_description
from pipeline.vision.bundle.digest import DESCRIPTION_FILE, WEIGHTS_FILE, bundle_digest

_SCHEME = "models:/"
_RUN_ID = re.compile("[0-9a-f]{32}")
_RUN_FOLDER = "bundle"  # of a run's artifacts
# What a served model imports; pinned to what trained it.
REQUIREMENTS = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "torch",
    "torchvision",
)
# And what random views of an image need.
DRAWING = "albumentations"


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: its number, as text.
        run_id: the MLflow run that the version belongs to.
        tags: of the version.
    """

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]


def find_version(tracking: Tracking, name: str, digest: str) -> Registered | None:
    """Return the newest version of the model `name` that is the bundle of this digest."""
    client = open_client(tracking)
    with explained(tracking_uri(tracking)):
        known = client.search_model_versions(
            f"name = '{name}' and tags.`{BUNDLE_TAG}` = '{digest}'"
        )
    if not known:
        return None
    newest = max(known, key=lambda found: int(found.version))
    return Registered(name, str(newest.version), newest.run_id, newest.tags)


def register_bundle(
    bundle: Path,
    *,
    tracking: Tracking,
    name: str,
    run_id: str,
) -> Registered:
    """Register a bundle as a version of the model `name`, unless it is one already.

    Args:
        bundle: its folder.
        tracking: the store.
        name: of the model.
        run_id: of the run that trained the bundle, to which the version belongs; it gets the
            bundle as an artifact.

    Raises:
        PipelineError: no MLflow store answers.
    """
    digest = bundle_digest(bundle)
    client = open_client(tracking)
    # In turns: two processes with the same bundle make one version.
    with explained(tracking_uri(tracking)), one_at_a_time(tracking):
        known = find_version(tracking, name, digest)
        if known:
            return known

        import mlflow

        with _resumed(client, run_id):
            client.log_artifacts(run_id, str(bundle), _RUN_FOLDER)
            model_id = _log_model(bundle)
            with contextlib.redirect_stderr(io.StringIO()):  # it says there what we say ourselves
                registered = mlflow.register_model(
                    f"{_SCHEME}{model_id}", name, tags={BUNDLE_TAG: digest}
                )
    return Registered(name, str(registered.version), run_id, {BUNDLE_TAG: digest})


def describe(tracking: Tracking, version: Registered, text: str, model: str) -> None:
    """Set the description of a version, and that of its model unless it has one.

    Args:
        tracking: the store.
        version: that is described.
        text: Markdown.
        model: likewise, of the registered model. What a person wrote there stays.
    """
    client = connect(tracking)
    with explained(tracking_uri(tracking)):
        client.update_model_version(version.name, version.version, text)
        if not client.get_registered_model(version.name).description:
            client.update_registered_model(version.name, model)


def find_bundle(model: str, tracking: Tracking) -> Path:
    """Return the folder of a bundle.

    Args:
        model: a bundle folder, `models:/name@alias`, `models:/name/version`, or the id of a run:
            its registered bundle, or else its best checkpoint.
        tracking: the store.

    Raises:
        PipelineError: it is none of these, or not there.
    """
    if not in_store(model):
        return Path(model)
    if model.startswith(_SCHEME):
        return fetch_bundle(model, tracking)
    client = connect(tracking)
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(model)
        if client.list_artifacts(model, _RUN_FOLDER):
            return Path(client.download_artifacts(model, _RUN_FOLDER))
        # The last improvement is the best one, whatever the metric by which epochs are judged.
        ready = filter(is_ready, logged_models(client, run))
        best = max(ready, key=lambda found: int(found.tags[EPOCH_TAG]), default=None)
        if best is not None:
            return _download(client, f"{_SCHEME}{best.model_id}")
        missing = "holds neither a registered bundle nor a checkpoint; with tracking.checkpoints:"
        missing += " best in params.yaml, a training leaves one when its run ends"
    except (MlflowException, OSError) as error:
        missing = (
            f"is not there, or its files are not ({error}); name another run, or a bundle folder"
        )
    raise PipelineError(f"the run {model} at {shown(tracking_uri(tracking))} {missing}")


def in_store(model: str) -> bool:
    """Say whether a model's name leads into the store: a registry URI, or the id of a run."""
    if model.startswith(_SCHEME):
        return True
    return _RUN_ID.fullmatch(model) is not None and not Path(model).exists()


def fetch_bundle(uri: str, tracking: Tracking) -> Path:
    """Return the bundle folder behind `models:/name@alias` or `models:/name/version`.

    Raises:
        PipelineError: no such model, version or alias, or one that holds no bundle.
    """
    client = connect(tracking)
    from mlflow.exceptions import MlflowException

    try:
        folder = _download(client, uri)
    except (MlflowException, OSError) as error:
        with explained(tracking_uri(tracking)):
            names = [model.name for model in client.search_registered_models()]
        asked = uri.removeprefix(_SCHEME).partition("@")[0].partition("/")[0]
        raise PipelineError(
            f"no model {uri} in the registry at {shown(tracking_uri(tracking))}"
            f"{did_you_mean(asked, names)} ({error}); registered models:"
            f" {', '.join(names) or 'none'}"
        ) from error
    found = sorted(folder.rglob("bundle.json"))
    if not found:
        raise PipelineError(f"{uri} was not registered by Convoy: it holds no bundle.json")
    return found[0].parent


def cached_bundle(tracking: Tracking, name: str, version: str, digest: str, cache: Path) -> Path:
    """Return the folder of a version's bundle, downloaded once.

    Args:
        tracking: the store.
        name: of the registered model.
        version: its number.
        digest: of the bundle, which it must have.
        cache: holds one folder per digest.

    Raises:
        PipelineError: the version is gone, or holds another bundle than it was registered with.
    """
    folder = cache / digest
    if _is_bundle(folder, digest):
        return folder
    uri = f"{_SCHEME}{name}/{version}"
    fetched = fetch_bundle(uri, tracking)
    if not _is_bundle(fetched, digest):
        raise PipelineError(
            f"{uri} at {shown(tracking_uri(tracking))} is damaged: its bundle is not the one that"
            f" was registered; point its aliases at another version"
        )
    with fresh_folder(folder) as new:
        for file in (DESCRIPTION_FILE, WEIGHTS_FILE):
            shutil.copy(fetched / file, new / file)
    return folder


def _download(client: Any, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    with as_default(client):
        return Path(download_artifacts(artifact_uri=uri))


def _is_bundle(folder: Path, digest: str) -> bool:
    try:
        return bundle_digest(folder) == digest
    except PipelineError:
        return False


@contextmanager
def _resumed(client: Any, run_id: str) -> Iterator[None]:
    """Make a run the one that MLflow logs to, and leave status and end as they were."""
    import mlflow

    before = client.get_run(run_id).info
    try:
        with as_default(client), mlflow.start_run(run_id=run_id):
            yield
    finally:
        client.set_terminated(run_id, before.status, before.end_time)


def _log_model(bundle: Path) -> str:
    """Log the bundle as a pyfunc model made of code and artifacts, and return its id."""
    import mlflow

    description = read_description(bundle)
    draws = description.views is not None and description.views.are_random
    needed = sorted({*REQUIREMENTS, DRAWING} if draws else REQUIREMENTS)
    package = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        # The package alone, so that the model runs where Convoy is not installed.
        code = Path(folder) / package.name
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__"))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "runtime" / "registry" / "pyfunc_model.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(code)],
            signature=_signature(description.classes),
            input_example=_example(description),
            pip_requirements=[f"{name}=={_public_version(name)}" for name in needed],
        )
    return str(logged.model_id)


def _signature(classes: Sequence[str]) -> Any:
    """Return what goes into the served model and what comes out: see pyfunc_model.py."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    # The model checks its input itself: MLflow would not say which image it cannot use, and takes
    # seconds to check the numbers of pixels.
    inputs = [ColSpec(AnyType(), name, required=False) for name in ("image", "path", "pixels")]
    outputs = [ColSpec(DataType.string, "class")]
    outputs += [ColSpec(DataType.double, f"p_{label}") for label in classes]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _example(description: Description) -> Any:
    """Return a table with one grey image: nobody's picture is put into the registry."""
    import pandas as pd

    preprocessing = description.preprocessing
    grey = np.full((preprocessing.height, preprocessing.width), 128, np.uint8)
    return pd.DataFrame({"image": [cv2.imencode(".png", grey)[1].tobytes()]})


def _public_version(package: str) -> str:
    """Return the version without its build: 2.13.0 for 2.13.0+cpu."""
    return version(package).partition("+")[0]
