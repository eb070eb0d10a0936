"""Whether a cluster can run a job, found out before anything is uploaded."""

import json
import platform
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import atomic_path
from pipeline.params import Params
from pipeline.remote import is_uri
from pipeline.runtime.jobs.package import code_package
from pipeline.runtime.ray import probe
from pipeline.runtime.ray.demand import state_demand
from pipeline.runtime.ray.job_server import JobServer
from pipeline.runtime.storage.shared import Storage
from pipeline.vision.bundle.digest import values_digest

# A cluster that was found well is not asked again for so long: each stage is a job of its own.
_VALID_S = 600.0
_CHECKS_S = 28.0  # for all checks together
_POLL_S = 0.3
_VERDICT = Path(".convoy/preflight.json")
# Packages whose versions decide results: a node with others would make another network.
_SAME = ("torch", "numpy", "pyarrow", "opencv-python-headless", "albumentations", "pillow")
_ANSWER = "convoy-probe: "


@dataclass(frozen=True)
class Cluster:
    """What was found.

    Attributes:
        nodes: what each has, as Ray counts it.
        sees: of each path whether all nodes that were asked can read it. `data.root` is among
            them, where it is an absolute path or a bucket.
    """

    nodes: list[dict[str, float]]
    sees: dict[str, bool]


def check_cluster(
    params: Params,
    server: JobServer,
    storage: Storage,
    paths: Sequence[str] = (),
    *,
    afresh: bool = False,
) -> Cluster:
    """Check all that a job needs, at once, in at most half a minute.

    Args:
        params: with resources.
        server: of the cluster.
        storage: the shared one.
        paths: absolute ones or buckets, few: of which `Cluster.sees` is to speak.
        afresh: whether a cluster that was found well some minutes ago is checked again.

    Raises:
        PipelineError: something is missing; a line for each has been printed.
    """
    root = params.data.root
    asked = [root] if is_uri(root) or Path(root).is_absolute() else []
    paths = list(dict.fromkeys([*asked, *paths]))  # a verdict serves all stages
    key = values_digest([params.resources.model_dump(mode="json"), server.address, storage.uri])
    if not afresh and (known := _known(key)) and known.sees.keys() >= set(paths):
        return known
    begin_s = time.monotonic()
    quick = Storage(storage.uri, patience_s=5.0)
    nonce = uuid.uuid4().hex
    versions: dict[str, str] = {}
    refused, unstored, unpacked = _outcomes(
        lambda: versions.update(server.versions()),
        lambda: _check_storage(params, quick, nonce),
        _check_package,
    )
    failures = [line for line in (refused, unstored, unpacked) if line]
    found = Cluster([], {})
    if not refused:
        if (theirs := versions.get("ray_version")) != (ours := version("ray")):
            failures.append(
                f"Ray: {ours} here, {theirs} in the cluster; install the same version in both"
            )
        try:
            answer = _probe_cluster(server, paths, quick, nonce, begin_s + _CHECKS_S)
            failures += _compared(answer, params, storage, storage_known=bool(unstored))
            each = [seen["sees"] for seen in answer["seen"]]
            sees = {path: all(node[i] for node in each) for i, path in enumerate(paths)}
            found = Cluster(answer["nodes"], sees)
        except PipelineError as error:
            failures.append(str(error))
    if not unstored:
        quick.remove(f"preflight/{nonce}")
    if failures:
        for line in failures:
            print(f"cluster: {line}", file=sys.stderr)
        raise PipelineError(
            f"the cluster at {server.address} cannot run this: {len(failures)}"
            f" check{'s' if len(failures) > 1 else ''} failed; nothing was uploaded"
        )
    with atomic_path(_VERDICT) as temporary:  # paths may be no UTF-8: not as it is
        temporary.write_text(json.dumps({"key": key, "time_s": time.time(), **vars(found)}))
    return found


def _known(key: str) -> Cluster | None:
    try:
        known = json.loads(_VERDICT.read_bytes())
        if known["key"] == key and 0 <= time.time() - known["time_s"] < _VALID_S:
            return Cluster(known["nodes"], dict(known["sees"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _outcomes(*checks: Callable[[], None]) -> list[str | None]:
    """Make checks, all at once; return of each what it found wrong."""

    def outcome(check: Callable[[], None]) -> str | None:
        try:
            check()
        except PipelineError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(outcome, checks))


def _check_storage(params: Params, storage: Storage, nonce: str) -> None:
    uri = params.resources.storage
    if not is_uri(uri) and not Path(uri).is_absolute():
        raise PipelineError(
            f"resources.storage is {uri}, a folder of this machine; set it to a folder that all"
            " nodes share, by its whole path, or to a bucket such as s3://BUCKET/convoy"
        )
    storage.write(f"preflight/{nonce}/asked", nonce.encode())
    if storage.read(f"preflight/{nonce}/asked") != nonce.encode():
        raise PipelineError(
            f"storage {uri} does not give back what was written to it; see whether another program"
            " cleans it"
        )


def _check_package() -> None:
    with code_package() as folder, TemporaryDirectory() as name:
        packed = Path(shutil.make_archive(f"{name}/package", "zip", folder)).stat().st_size
    if packed > 2**20:
        raise PipelineError(
            f"the code package has {packed / 2**20:.1f} MiB, expected less than 1; params.yaml and"
            " dvc.yaml are part of it: take out what is no code"
        )


def _probe_cluster(
    server: JobServer, paths: Sequence[str], storage: Storage, nonce: str, deadline_s: float
) -> dict[str, Any]:
    """Run the probe as a job, and return what it found."""
    job = f"convoy-preflight-{nonce[:12]}"
    script = Path(probe.__file__).read_text(encoding="utf-8")
    asked = {"uri": storage.uri, "nonce": nonce, "paths": paths, "packages": _SAME}
    server.submit(
        job,
        f"python -c {shlex.quote(script)}",
        package=None,
        environment={"CONVOY_PROBE": json.dumps(asked)},
        metadata={"stage": "preflight"},
    )
    while (state := server.state(job)) and state.running:
        if time.monotonic() > deadline_s:
            server.stop(job)
            raise PipelineError(
                f"the cluster at {server.address} has not run a job of one line within"
                f" {_CHECKS_S:.0f} s (it is {state.status}: {state.message}); see ray status on its"
                " head"
            )
        time.sleep(_POLL_S)
    log = server.logs(job)
    for line in log.splitlines():
        if line.startswith(_ANSWER):
            return dict(json.loads(line.removeprefix(_ANSWER)))
    last = [line for line in log.splitlines() if line.strip()][-1:] or ["nothing"]
    raise PipelineError(
        f"the cluster at {server.address} cannot run Python with Ray: its last line was"
        f" {last[0][:200]}; install Convoy's dependencies on all nodes"
    )


def _compared(
    answer: dict[str, Any], params: Params, storage: Storage, *, storage_known: bool
) -> list[str]:
    """Compare what the probe found with what is here, or asked for."""
    lines = []
    here = ".".join(platform.python_version_tuple()[:2])
    if ".".join(answer["python"].split(".")[:2]) != here:
        lines.append(
            f"Python: {here} here, {answer['python']} in the cluster; use the same minor version"
        )
    try:
        state_demand(params.resources, answer["nodes"])
    except PipelineError as error:
        lines.append(str(error))
    for seen in answer["seen"]:
        where = f"node {seen['node']}"
        for package, found in seen["packages"].items():
            if found != version(package):
                lines.append(
                    f"{package}: {version(package)} here, {found or 'none'} on {where}; install"
                    " infra/requirements.lock there"
                )
        if seen["problem"] and not storage_known:
            lines.append(
                f"storage {storage.uri} cannot be used from {where}: {seen['problem']}; let all"
                " nodes read and write it, with credentials in their environment"
            )
    return lines
