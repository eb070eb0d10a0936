"""`convoy doctor`: what works here, and what to do about what does not."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from pipeline.errors import PipelineError
from pipeline.files import located
from pipeline.parallel import usable_cores
from pipeline.params import Params, load_params
from pipeline.remote import in_haste, is_uri
from pipeline.runtime.storage.job_context import placed

_MIN_PYTHON = (3, 11)
_PATIENCE_S = 4.0  # with a bucket that does not answer
_MIN_FREE_GIB = 2


def run() -> bool:
    """Run every check, print a line for each, and return whether all is well."""
    results = [_try("python", _python), _try("packages", _packages), _try("torch", _torch)]
    results += [_try("dvc", _dvc), _try("disk", _disk)]
    try:
        params = placed(load_params())
    except PipelineError as error:
        _say("params", False, str(error))
        return False
    _say("params", True, "params.yaml is valid")
    for name, check in (("data", _data), ("tracking", _tracking), ("cluster", _cluster)):
        results.append(_try(name, lambda check=check: check(params)))  # type: ignore[misc]
    return all(results)


def _try(name: str, check: Callable[[], str]) -> bool:
    """Run one check; whatever it raises is its finding."""
    try:
        found = check()
    except Exception as error:
        _say(name, False, f"{error}" if isinstance(error, PipelineError) else repr(error))
        return False
    _say(name, True, found)
    return True


def _say(name: str, fine: bool, words: str) -> None:
    print(f"{'ok  ' if fine else 'FAIL'} {name:9} {' '.join(words.split())}")


def _python() -> str:
    if sys.version_info < _MIN_PYTHON:
        raise PipelineError(f"Python {platform.python_version()}, need 3.11 or later")
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return f"Python {platform.python_version()} in {where}, {usable_cores()} cores"


def _packages() -> str:
    """Compare what is installed with what Convoy asks for."""
    wrong = []
    direct = [Requirement(line) for line in requires("convoy") or []]
    direct = [needed for needed in direct if not needed.marker or needed.marker.evaluate()]
    for needed in direct:
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} is {found}, need {needed.specifier}")
    if wrong:
        raise PipelineError(f"{'; '.join(wrong)}; run bash infra/setup.sh")
    return f"{len(direct)} direct dependencies as asked for"


def _torch() -> str:
    import torch

    from pipeline.vision.networks import build_network

    network = build_network("squeezenet1_1", {}, (3, 32, 32), 2)  # needs torchvision too
    if torch.cuda.is_available():
        network.cuda()(torch.zeros(1, 3, 32, 32, device="cuda"))
        return f"torch {torch.__version__} computes on {torch.cuda.get_device_name()}"
    return f"torch {torch.__version__} computes on the CPU, {torch.get_num_threads()} threads"


def _dvc() -> str:
    for program in ("git", "dvc"):
        if shutil.which(program) is None:
            raise PipelineError(f"{program} is not on the PATH; activate .venv and install git")
    asked = subprocess.run(["dvc", "status", "-q"], capture_output=True, text=True, check=False)
    if asked.returncode not in (0, 1):
        raise PipelineError(f"dvc status failed: {asked.stderr or asked.stdout}")
    return f"dvc {version('dvc')}, {'nothing' if asked.returncode == 0 else 'stages'} to run"


def _disk() -> str:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    if free_gib < _MIN_FREE_GIB:
        raise PipelineError(f"{free_gib:.1f} GiB free here, need {_MIN_FREE_GIB} or more")
    with TemporaryDirectory(dir=Path.cwd()):
        return f"{free_gib:.0f} GiB free, and this folder can be written"


def _data(params: Params) -> str:
    """Find images, without reading any."""
    root = params.data.root
    if Path(root) == Path("data/sample") and not Path(root).exists():
        return f"{root} is made by the first dvc repro"
    from pipeline.data.sources.open import open_source

    place = root if is_uri(root) else located(root)
    with in_haste(_PATIENCE_S):
        return f"{open_source(root).list_images().images.num_rows} images in {place}"


def _tracking(params: Params) -> str:
    from pipeline.runtime.tracking.store import open_client, shown, tracking_uri

    client = open_client(params.tracking)
    runs = client.search_runs(
        [client.get_experiment_by_name(params.tracking.experiment).experiment_id], max_results=1000
    )
    name = params.tracking.experiment
    return f"{shown(tracking_uri(params.tracking))} answers, {len(runs)} runs of {name}"


def _cluster(params: Params) -> str:
    if params.resources.address is None:
        from pipeline.runtime.ray.fit import probe

        return probe(params.resources)
    from pipeline.runtime.jobs.preflight import check_cluster
    from pipeline.runtime.ray.job_server import JobServer
    from pipeline.runtime.storage.shared import Storage

    server, storage = JobServer(params.resources.address), Storage(params.resources.storage)
    found = check_cluster(params, server, storage, afresh=True)
    cpus, gpus = (sum(node.get(kind, 0.0) for node in found.nodes) for kind in ("CPU", "GPU"))
    return (
        f"{server.address} has {len(found.nodes)} nodes with {cpus:g} CPUs and {gpus:g} GPUs, which"
        f" use the storage {storage.uri}"
    )
