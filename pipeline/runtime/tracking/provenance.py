"""Where a run comes from: git commit, user, DVC's state. All of it as tags.

What cannot be found out is left out: a training outside git and DVC is a training too.
"""

import getpass
import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.runtime.storage.job_context import current_job

REPRO_TAG = "convoy.repro"

_LOCK = Path("dvc.lock")
# As DVC sets them for the commands of its stages.
_STAGE, _EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"


def provenance(inputs: Sequence[Path]) -> dict[str, str]:
    """Return all of these tags.

    Args:
        inputs: files and folders whose state DVC may know, relative to the current folder.
    """
    if job := current_job():
        return job.provenance
    return {**git_tags(), **user_tags(), **dvc_tags(inputs)}


def user_tags() -> dict[str, str]:
    """Return who runs this."""
    try:
        return {"mlflow.user": getpass.getuser()}
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        return {}


def git_tags() -> dict[str, str]:
    """Return commit and branch of the current folder, and whether its files differ from it.

    dvc.lock is left out: DVC writes it while the pipeline runs.
    """
    asked = subprocess.run(
        ["git", "status", "--porcelain=v2", "--branch", "-uno", "--", ".", f":!{_LOCK}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        return {}
    lines = asked.stdout.splitlines()
    heads = dict(line.split(" ", 2)[1:] for line in lines if line.startswith("# branch."))
    changed = any(not line.startswith("#") for line in lines)
    tags = {
        "mlflow.source.git.commit": heads.get("branch.oid", "(initial)"),
        "mlflow.source.git.branch": heads.get("branch.head", "(detached)"),
    }
    known = {name: value for name, value in tags.items() if not value.startswith("(")}
    return known | {"mlflow.source.git.dirty": str(changed).lower()} if known else {}


def dvc_tags(inputs: Sequence[Path]) -> dict[str, str]:
    """Return what DVC knows of this command and its inputs; nothing where DVC does not run it.

    `convoy.repro` is one value for all commands of one `dvc repro` or `dvc exp run`.
    """
    stage = os.environ.get(_STAGE)
    if stage is None:
        return {}
    tags = {"convoy.dvc.stage": stage}
    experiment = os.environ.get(_EXPERIMENT)
    if experiment:
        tags["convoy.dvc.exp"] = experiment
    started = _start_of_dvc(stage)
    if started:
        when = f"{started:%Y-%m-%d %H:%M:%S} UTC"
        tags[REPRO_TAG] = f"{experiment or 'repro'} {when}, {socket.gethostname()}"
    return tags | lock_tags(_LOCK, inputs)


def lock_tags(lock: Path, inputs: Sequence[Path]) -> dict[str, str]:
    """Return the digest of dvc.lock, and the md5 that it records for each input.

    For a part of an output (data/packed/train of data/packed) it is that of the whole.
    """
    try:
        text = lock.read_bytes()
        recorded = list(_recorded(yaml.safe_load(text)))
    except (OSError, yaml.YAMLError):
        return {}
    tags = {"convoy.dvc.lock": hashlib.sha256(text).hexdigest()}
    for path in inputs:
        for known, md5 in recorded:
            if known == path or known in path.parents:
                tags[f"convoy.dvc.md5.{known.as_posix()}"] = md5
                break
    return tags


def _recorded(lock: Any) -> Iterator[tuple[Path, str]]:
    """Yield path and md5 of what stages wrote, then of what they read."""
    stages = lock.get("stages", {}).values() if isinstance(lock, dict) else ()
    for kind in ("outs", "deps"):
        for stage in stages:
            for entry in stage.get(kind, ()):
                if "md5" in entry:
                    yield Path(entry["path"]), entry["md5"]


def _start_of_dvc(stage: str) -> datetime | None:
    """Find the process that set DVC_STAGE for this one, and perhaps for a shell in between."""
    try:
        for process in psutil.Process().parents():
            if process.environ().get(_STAGE) != stage:
                return datetime.fromtimestamp(round(process.create_time()), UTC)
    except psutil.Error:  # one of another user
        pass
    return None
