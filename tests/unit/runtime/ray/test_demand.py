import pytest

from pipeline.errors import PipelineError
from pipeline.params import MistakesError, Params, load_params, parse
from pipeline.runtime.ray.capacity import count_fitting
from pipeline.runtime.ray.demand import Demand, in_use, state_demand
from tests.contract.imports import ROOT

RESOURCES = load_params(ROOT / "params.yaml").resources
ONE = [{"CPU": 4.0}]
PAIR = [{"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}]


def ask(nodes, **changes):
    values = {"workers": 1, "cpus_per_worker": None, "gpus_per_worker": None} | changes
    return state_demand(RESOURCES.model_copy(update=values), nodes)


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        (ONE, {}, Demand(1, 1, {"CPU": 4.0})),
        (ONE, {"workers": 3}, Demand(3, 3, {"CPU": 1.0})),
        (PAIR, {"workers": 2, "gpus_per_worker": 0.0}, Demand(2, 2, {"CPU": 2.0})),
        (PAIR, {"workers": (1, 4)}, Demand(1, 4, {"CPU": 1.0, "GPU": 1.0})),
        (PAIR, {"workers": 1}, Demand(1, 1, {"CPU": 2.0, "GPU": 1.0})),
        (PAIR, {"workers": 1, "gpus_per_worker": 0.5}, Demand(1, 1, {"CPU": 2.0, "GPU": 0.5})),
        (ONE, {"workers": (1, 8)}, Demand(1, 8, {"CPU": 1.0})),
        (ONE, {"workers": (1, 2), "gpus_per_worker": 0.0}, Demand(1, 2, {"CPU": 2.0})),
    ],
)
def test_what_params_leave_open_is_shared_out_evenly(nodes, asked, expected):
    assert ask(nodes, **asked) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "message"),
    [
        (ONE, {"workers": 5}, r"asks for 5 CPUs \(5 workers\), the cluster has 4 CPUs; lower"),
        (ONE, {"gpus_per_worker": 1.0}, r"asks for 1 GPUs \(1 workers\), the cluster has 0 GPUs"),
        (
            PAIR,
            {"cpus_per_worker": 4},
            r"asks for 1 worker of 4 CPU each; only 0 of them fit, for no worker spans nodes, and"
            r" the cluster's have 2 CPUs, 2 CPUs; lower",
        ),
        (
            [{"CPU": 3.0}, {"CPU": 3.0}],
            {"cpus_per_worker": 2, "workers": (3, 4)},
            "3 to 4 workers of 2 CPU each; only 2 of them fit",
        ),
    ],
)
def test_what_the_cluster_will_never_have_is_an_error(nodes, asked, message):
    gpus = {"gpus_per_worker": 0.0} | asked
    with pytest.raises(PipelineError, match=message):
        ask(nodes, **gpus)


def test_fewer_gpus_than_workers_are_an_error_and_not_a_training_on_cpus():
    two = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    message = (
        "resources.workers asks for 4 workers, the cluster has 2 GPUs; set resources.workers to 2,"
        " or resources.gpus_per_worker to 0 to train on CPUs"
    )
    with pytest.raises(PipelineError, match=message):
        ask(two, workers=4)
    assert ask(two, workers=4, gpus_per_worker=0.0).per_worker == {"CPU": 4.0}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpus_per_worker": 2}, "gpus_per_worker: got 2, need null, or a number from 0 to 1: a w"),
        ({"gpus_per_worker": 0.5, "workers": 2}, "gpus_per_worker: 0.5 for several workers, two"),
        ({"gpus_per_worker": 0.5, "workers": [1, 2]}, "might get the same GPU"),
    ],
)
def test_shares_of_gpus_that_nobody_could_use_are_refused(asked, message):
    values = load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)
    with pytest.raises(MistakesError, match=message):
        parse(Params, values | {"resources": values["resources"] | asked})


def test_no_worker_spans_nodes():
    assert count_fitting(PAIR, {"CPU": 3.0}) == 0
    assert count_fitting(PAIR, {"CPU": 1.0}) == 4
    assert count_fitting(PAIR, {"CPU": 1.0, "GPU": 0.5}) == 2
    assert count_fitting([{"CPU": 0.3}], {"CPU": 0.1}) == 3


def test_what_others_hold_is_told():
    error = in_use(Demand(2, 2, {"CPU": 1.0}), ONE, [{"CPU": 1.0}])
    assert str(error).startswith(
        "resources asks for 2 workers of 1 CPU each; others use 3 of 4 CPUs of the cluster, free"
        " are 1 CPUs; wait for them to end, or lower"
    )
