"""Where this process runs: on a person's machine, or in a job of a cluster."""

import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.params import JOINED, Params
from pipeline.progress import RELAYED

if TYPE_CHECKING:  # a command that meets no cluster needs no storage
    from pipeline.runtime.storage.shared import Storage

VARIABLE = RELAYED
ADDRESS = "RAY_ADDRESS"


@dataclass(frozen=True)
class JobContext:
    """The job that this process belongs to.

    Attributes:
        identity: digest of its code, params and data.
        attempt: from 1.
        storage: the shared one.
        store: the sender's MLflow store, where the cluster cannot reach it: records of runs go
            back with the outs. None: they are delivered from here.
        provenance: tags of runs that only the sender knows.
        weights: by training stage, first weights that the sender found, as `InitialWeights`.
    """

    identity: str
    attempt: int
    storage: str
    store: str | None
    provenance: dict[str, str]
    weights: dict[str, dict[str, Any]]

    @cached_property
    def shared(self) -> "Storage":
        """The shared storage, opened."""
        from pipeline.runtime.storage.shared import Storage

        return Storage(self.storage)

    @property
    def state(self) -> Path:
        """The folder of a node for checkpoints and records of the job; it outlives an attempt."""
        from pipeline.runtime.storage.node_cache import NodeCache

        return NodeCache().root / "jobs" / self.identity

    def environment(self) -> dict[str, str]:
        """Return what makes this the context of a process."""
        return {VARIABLE: json.dumps(asdict(self))}


def current_job() -> JobContext | None:
    """Return the job that this process belongs to, None outside of any."""
    text = os.environ.get(VARIABLE)
    return JobContext(**json.loads(text)) if text else None


def placed(params: Params) -> Params:
    """Return the params with the resources that hold here.

    RAY_ADDRESS, where it is that of a job server, takes the place of `resources.address`. In a job,
    its own cluster does, and checkpoints and records of trainings lie in a folder of this node.

    Raises:
        PipelineError: RAY_ADDRESS names something else than a job server.
    """
    job, resources = current_job(), params.resources
    if job:
        update = {"address": JOINED, "storage": str(job.state / "runs")}
    elif address := os.environ.get(ADDRESS):
        if not address.startswith(("http://", "https://")):
            raise PipelineError(
                f"{ADDRESS} is {address}, expected the address of a cluster's job server, such as"
                " http://HOST:8265; set it so, or unset it to use resources.address"
            )
        update = {"address": address}
    else:
        return params
    return params.model_copy(update={"resources": resources.model_copy(update=update)})
