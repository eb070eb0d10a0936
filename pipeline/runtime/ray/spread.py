"""Work on many items as tasks on all nodes of a cluster, in order, with few of them under way."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.parallel import spread_by
from pipeline.params import Resources
from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.storage.workspace import Inputs

T = TypeVar("T")
R = TypeVar("R")

# Tasks under way for each core: one that is worked on, and one that waits beside it.
_PER_CORE = 2
# Of a task, in seconds: it takes as many pieces as are done in so long. Ray needs some hundredths
# of a second to place one.
_TASK_S = 0.5
_RETRIES = 10  # of a task whose node dies


@contextmanager
def spread_over_cluster(resources: Resources, publish: Callable[[], Inputs]) -> Iterator[None]:
    """Have the work of the block done on the cluster of this job.

    Args:
        resources: with its address.
        publish: makes the files of the current folder that the work reads known to all nodes.
    """
    spread = _Spread(resources, publish)
    with spread_by(spread):
        try:
            yield
        finally:
            spread.close()


class _Spread:
    """Connects with the first piece of work."""

    def __init__(self, resources: Resources, publish: Callable[[], Inputs]) -> None:
        self._resources, self._publish = resources, publish
        self._cluster: Cluster | None = None
        self._inputs: Inputs | None = None

    def __call__(
        self, function: Callable[[Sequence[T]], R], pieces: Sequence[Sequence[T]]
    ) -> Iterator[R]:
        """Yield `function(piece)` for each piece, in order.

        Raises:
            PipelineError: as the function, or no cluster answers.
        """
        if not pieces:
            return
        self._cluster = self._cluster or Cluster(self._resources)
        self._inputs = self._inputs or self._publish()
        ray, cluster = self._cluster.ray, self._cluster
        task = ray.remote(_work).options(
            num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD"
        )
        shared, waiting, rest, size = ray.put(function), deque[Any](), iter(pieces), 1
        while taken := list(islice(rest, size)):
            waiting.append(task.remote(self._inputs, shared, taken))
            # Asked each time: nodes come and go.
            if len(waiting) > 1 and len(waiting) >= _PER_CORE * _cores(cluster):
                results, spent_s = _result(cluster, waiting.popleft())
                yield from results
                size = max(1, min(2 * size, int(_TASK_S * len(results) / max(spent_s, 1e-6))))
        while waiting:
            results, _ = _result(cluster, waiting.popleft())
            yield from results

    def close(self) -> None:
        """Leave the cluster."""
        if self._cluster:
            self._cluster.close()


def _cores(cluster: Cluster) -> int:
    return int(sum(node.get("CPU", 0.0) for node in cluster.nodes))


def _result(cluster: Cluster, reference: Any) -> Any:
    from ray.exceptions import RayError, RayTaskError

    try:
        return cluster.ask(lambda: cluster.ray.get(reference))
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise PipelineError(
            f"work on the cluster failed {_RETRIES + 1} times: {' '.join(str(error).split())[:300]}"
        ) from error


def _work(
    inputs: Inputs, function: Callable[[Sequence[T]], R], pieces: Sequence[Sequence[T]]
) -> tuple[list[R], float]:
    """Run in a task; return the results, and the seconds that they took."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    inputs.enter()
    begin_s = time.perf_counter()
    return [function(piece) for piece in pieces], time.perf_counter() - begin_s
