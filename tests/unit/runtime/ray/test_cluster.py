import pytest

from pipeline.errors import PipelineError
from pipeline.params import Resources
from pipeline.runtime.ray import cluster as module
from pipeline.runtime.ray.cluster import Cluster


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of a job, whose nodes are taken from a list of lists: one for each look."""

    class Joined(Cluster):
        def __init__(self):
            self.private, self.looks, self.passed_s = False, [], 0.0
            self.resources = Resources.model_construct(
                workers=2, cpus_per_worker=1, gpus_per_worker=0
            )

        @property
        def nodes(self):
            return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

        @property
        def free(self):
            return self.looks[0]

    joined = Joined()

    def sleep(seconds):
        joined.passed_s += seconds

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: joined.passed_s)
    return joined


ONE, TWO = [{"CPU": 1.0}], [{"CPU": 1.0}, {"CPU": 1.0}]


def test_nodes_that_join_after_a_restart_are_waited_for(cluster, capsys):
    cluster.looks = [[], ONE, ONE, TWO]
    demand = cluster._grant(20.0)
    assert (demand.fewest, demand.per_worker) == (2, {"CPU": 1.0})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("waits 120 s for more nodes: resources asks for 2 CPUs (2 workers), ")


def test_but_not_for_ever(cluster):
    cluster.looks = [ONE]
    with pytest.raises(PipelineError, match="the cluster has 1 CPUs"):
        cluster._grant(20.0)
    assert cluster.passed_s == pytest.approx(120.0)


def test_this_machine_gets_no_more_cores_by_waiting(cluster):
    cluster.private, cluster.looks = True, [ONE]
    with pytest.raises(PipelineError, match="has 1 CPUs"):
        cluster._grant(20.0)
    assert cluster.passed_s == 0.0
