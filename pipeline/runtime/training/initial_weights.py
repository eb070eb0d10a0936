"""What a training starts from: a file, a bundle, the registry, or what torchvision publishes."""

from pathlib import Path

from pipeline.data.shards.statistics import files_digest
from pipeline.errors import PipelineError
from pipeline.files import atomic_path, located
from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.runtime.storage.job_context import current_job
from pipeline.vision.bundle.description import check_weights, read_description
from pipeline.vision.bundle.digest import DESCRIPTION_FILE, WEIGHTS_FILE, bundle_digest
from pipeline.vision.training.make_job import InitialWeights

_WEIGHTS_FOLDER = "weights"


def find_initial_weights(params: Params, recipe: Training, stage: str = "") -> InitialWeights:
    """Find the weights that `recipe` names; in a job, those that its sender found for `stage`.

    Raises:
        PipelineError: there are none by that name, in that file, in the registry or in that run.
    """
    from pipeline.runtime.registry.versions import find_bundle, in_store

    source = recipe.weights
    if source is None:
        return InitialWeights()
    job = current_job()
    if job and (sent := job.weights.get(stage)):
        norm = sent["normalization"]
        path = Path(sent["weights"]).resolve()
        return InitialWeights(path, sent["origin"], norm and (tuple(norm[0]), tuple(norm[1])))
    storage = Path(params.resources.runs).resolve() / _WEIGHTS_FOLDER
    if in_store(source):
        path = find_bundle(source, params.tracking)
    elif located(source).exists():
        path = located(source)
    else:
        return _published(params.model.name, source, storage)
    return _start_from(path.resolve(), source)


def _published(network: str, name: str, storage: Path) -> InitialWeights:
    from safetensors.torch import save_file  # torch, which takes a second

    from pipeline.vision.weights.published import is_published, published_weights

    if not is_published(name):
        raise _nothing_there(name)
    published = published_weights(network, name)
    file = storage / f"{network}-{name}.safetensors"
    with atomic_path(file) as temporary:
        save_file(published.tensors, temporary)
    return InitialWeights(file, f"torchvision {network} {name}", (published.mean, published.std))


def _start_from(path: Path, source: str) -> InitialWeights:
    if (path / DESCRIPTION_FILE).is_file():
        before = read_description(path)
        check_weights(path)
        return InitialWeights(path, bundle_digest(path), (before.mean, before.std))
    file = _file_of(path)
    if not file.is_file():
        raise _nothing_there(source)
    return InitialWeights(path, files_digest([file.parent], file.name), None)


def _file_of(weights: Path) -> Path:
    return weights / WEIGHTS_FILE if weights.is_dir() else weights


def _nothing_there(source: str) -> PipelineError:
    return PipelineError(
        f"no weights at {source}; set weights in params.yaml to a .safetensors file, a bundle"
        " folder, models:/NAME@ALIAS, the id of a run, a name of published weights or null"
    )
