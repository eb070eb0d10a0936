"""What a training asks of a cluster, and whether the cluster has it: node by node."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.params import Resources
from pipeline.runtime.ray.capacity import Amounts, count_fitting

_REMEDY = "lower resources.workers or what each gets in params.yaml"


@dataclass(frozen=True)
class Demand:
    """What a training asks for.

    Attributes:
        fewest, most: workers.
        per_worker: amounts that each takes from one node.
    """

    fewest: int
    most: int
    per_worker: dict[str, float]

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.fewest < self.most

    def __str__(self) -> str:
        amounts = " and ".join(f"{amount:g} {kind}" for kind, amount in self.per_worker.items())
        count = f"{self.fewest} to {self.most}" if self.elastic else f"{self.most}"
        return f"{count} worker{'' if self.most == 1 else 's'} of {amounts}"


def state_demand(
    resources: Resources, nodes: Sequence[Amounts], where: str = "the cluster"
) -> Demand:
    """Fill in what params leave open, and refuse what there will never be.

    Args:
        resources: as in params.yaml.
        nodes: what each node has in all.
        where: what the nodes are called in an error.

    Raises:
        PipelineError: too few nodes, or too small ones.
    """
    workers = resources.workers
    fewest, most = (workers, workers) if isinstance(workers, int) else workers
    cpus = resources.cpus_per_worker or _even_share(nodes, most)
    gpus = resources.gpus_per_worker
    if gpus is None:
        gpus = _one_gpu_each(fewest, nodes, where)
    amounts = {"CPU": float(cpus), "GPU": gpus}
    demand = Demand(fewest, most, {kind: amount for kind, amount in amounts.items() if amount})
    _check_totals(demand, nodes, where)
    fitting = count_fitting(nodes, demand.per_worker)
    if fitting < fewest:
        raise PipelineError(
            f"resources asks for {demand} each; only {fitting} of them fit, for no worker spans"
            f" nodes, and the cluster's have {_shown(nodes, demand.per_worker)}; {_REMEDY}"
        )
    return demand


def in_use(demand: Demand, nodes: Sequence[Amounts], free: Sequence[Amounts]) -> PipelineError:
    """Make the error for amounts that exist, and that others hold."""
    kinds = demand.per_worker
    total = _added(nodes, kinds)
    left = _added(free, kinds)
    held = " and ".join(
        f"{total[kind] - left[kind]:g} of {total[kind]:g} {kind}s" for kind in kinds
    )
    return PipelineError(
        f"resources asks for {demand} each; others use {held} of the cluster, free are"
        f" {_shown(free, kinds)}; wait for them to end, or {_REMEDY}"
    )


def _one_gpu_each(workers: int, nodes: Sequence[Amounts], where: str) -> float:
    """Return 1 where each worker can have a GPU, and 0 where there are none.

    Raises:
        PipelineError: there are some, but too few: nobody means to leave them idle.
    """
    found = count_fitting(nodes, {"GPU": 1.0})
    if 0 < found < workers:
        raise PipelineError(
            f"resources.workers asks for {workers} workers, {where} has {found}"
            f" GPU{'' if found == 1 else 's'}; set resources.workers to {found}, or"
            " resources.gpus_per_worker to 0 to train on CPUs"
        )
    return 1.0 if found else 0.0


def _even_share(nodes: Sequence[Amounts], workers: int) -> int:
    """Return the most CPUs that each of `workers` can have, 1 at least."""
    most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
    fits = (cpus for cpus in range(most, 1, -1) if count_fitting(nodes, {"CPU": cpus}) >= workers)
    return next(fits, 1)


def _check_totals(demand: Demand, nodes: Sequence[Amounts], where: str) -> None:
    total = _added(nodes, demand.per_worker)
    asked = {kind: amount * demand.fewest for kind, amount in demand.per_worker.items()}
    short = [kind for kind in asked if asked[kind] > total[kind]]
    if short:
        wanted = " and ".join(f"{asked[kind]:g} {kind}s" for kind in short)
        found = " and ".join(f"{total[kind]:g} {kind}s" for kind in short)
        raise PipelineError(
            f"resources asks for {wanted} ({demand.fewest} workers), {where} has {found}; {_REMEDY}"
        )


def _added(nodes: Sequence[Amounts], kinds: Iterable[str]) -> dict[str, float]:
    return {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in kinds}


def _shown(nodes: Sequence[Amounts], kinds: Iterable[str]) -> str:
    each = (" and ".join(f"{node.get(kind, 0.0):g} {kind}s" for kind in kinds) for node in nodes)
    return ", ".join(each) or "none"
