"""What a job is, as both its sender and its driver read it from the shared storage."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from pipeline.errors import PipelineError
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import Tree


@dataclass(frozen=True)
class JobSpec:
    """A job.

    Attributes:
        identity: digest of code, params and data: sha256, hex.
        stage: of the pipeline; 'repro' for a whole `dvc repro`, 'predict' for files.
        inputs: digest of the tree of its inputs.
        outs: paths that it writes.
        targets: stages of a whole `dvc repro`; none for all.
    """

    identity: str
    stage: str
    inputs: str
    outs: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def save(self, storage: Storage) -> None:
        """Store it."""
        storage.write(_name(self.identity), json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, storage: Storage, identity: str) -> Self:
        """Read it.

        Raises:
            PipelineError: it is not there, or damaged.
        """
        content = storage.read(_name(identity))
        if content is None:
            raise PipelineError(f"storage {storage.uri} holds no job {identity[:12]}")
        try:
            raw = json.loads(content)
            return cls(**raw | {"outs": tuple(raw["outs"]), "targets": tuple(raw["targets"])})
        except (ValueError, TypeError, KeyError) as error:
            raise PipelineError(
                f"{_name(identity)} in {storage.uri} is damaged ({error}); remove it and run again"
            ) from error


def find_identity(storage: Storage, begin: str) -> str | None:
    """Return the identity of the stored job that begins so, None where there is none."""
    stored = (name.split("/")[1] for name in storage.names("jobs"))
    return next((identity for identity in stored if identity.startswith(begin)), None)


def save_result(storage: Storage, identity: str, outs: Tree) -> None:
    """Store what a job has written; from then on it is done."""
    storage.write(_result(identity), outs.to_json())


def load_result(storage: Storage, identity: str) -> Tree | None:
    """Return what a job has written, None while it is not done."""
    content = storage.read(_result(identity))
    where = f"{_result(identity)} in {storage.uri}"
    return content if content is None else Tree.from_json(content, where)


def drop_result(storage: Storage, identity: str) -> None:
    """Forget what a job has written, since a part of it is damaged."""
    storage.remove(_result(identity))


def save_failure(storage: Storage, identity: str, attempt: int, message: str, outs: Tree) -> None:
    """Store why an attempt ended that no other one would help, and what it had written."""
    failure = {"message": message, "outs": outs.to_json().decode()}
    storage.write(_failure(identity, attempt), json.dumps(failure).encode())


def load_failure(storage: Storage, identity: str, attempt: int) -> tuple[str, Tree] | None:
    """Return why an attempt ended and what it had written, None where it did not say."""
    name = _failure(identity, attempt)
    content = storage.read(name)
    if content is None:
        return None
    where = f"{name} in {storage.uri}"
    try:
        failure = json.loads(content)
        message, outs = str(failure["message"]), str(failure["outs"]).encode()
    except (ValueError, TypeError, LookupError) as error:
        raise PipelineError(f"{where} is damaged ({error}); remove it and run again") from error
    return message, Tree.from_json(outs, where)


def begin_attempt(storage: Storage, identity: str, attempt: int) -> None:
    """Make an attempt the one that counts: those before it are to write nothing more."""
    storage.write(f"{_attempts(identity)}/{attempt:06d}", b"")


def latest_attempt(storage: Storage, identity: str) -> int:
    """Return the number of the attempt that counts, 0 before the first."""
    # A file for each: a sender that is late cannot make an earlier one count again.
    begun = [name.rpartition("/")[2] for name in storage.names(_attempts(identity))]
    return max((int(name) for name in begun if name.isdigit()), default=0)


def _name(identity: str) -> str:
    return f"jobs/{identity}/job.json"


def _attempts(identity: str) -> str:
    return f"jobs/{identity}/attempts"


def _result(identity: str) -> str:
    return f"jobs/{identity}/result.json"


def _failure(identity: str, attempt: int) -> str:
    return f"jobs/{identity}/failure-{attempt:04d}.json"
