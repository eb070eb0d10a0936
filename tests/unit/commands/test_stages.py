import pytest

from pipeline.commands import _stages
from pipeline.params import JOINED, load_params
from pipeline.runtime.jobs import inside, send
from tests.contract.imports import ROOT


@pytest.fixture
def ran(monkeypatch):
    """Where stages ran."""
    places = []
    monkeypatch.setattr(send, "send_stage", lambda _, stage: places.append(("cluster", stage)))
    monkeypatch.setattr(inside, "run_stage", lambda stage, _: places.append(("job", stage)))
    here = type("Stage", (), {"run": lambda _: places.append(("here", None))})
    monkeypatch.setattr(_stages.importlib, "import_module", lambda _: here)
    return places


def params_at(address, root="data/sample"):
    params = load_params(ROOT / "params.yaml")
    resources = params.resources.model_copy(update={"address": address})
    data = params.data.model_copy(update={"root": root})
    return params.model_copy(update={"resources": resources, "data": data})


@pytest.mark.parametrize(
    ("stage", "address", "root", "place"),
    [
        ("train", None, "data/sample", ("here", None)),
        ("train", "http://head:8265", "data/sample", ("cluster", "train")),
        ("train", JOINED, "data/sample", ("job", "train")),
        ("split", "http://head:8265", "data/sample", ("here", None)),
        ("register", JOINED, "data/sample", ("here", None)),
        ("index", "http://head:8265", "s3://bucket/images", ("cluster", "index")),
        ("index", "http://head:8265", "s3://unseen/images", ("here", None)),
        ("pack", "http://head:8265", "/images", ("cluster", "pack")),
        ("pack", "http://head:8265", "data/sample", ("here", None)),
    ],
)
def test_where_a_stage_runs(ran, capsys, monkeypatch, stage, address, root, place):
    unseen = "s3://unseen/images"
    monkeypatch.setattr(
        send,
        "first_unseen",
        lambda _, paths: next((path for path in paths if path == unseen), None),
    )
    _stages.run_stage(stage, params_at(address, root))
    assert ran == [place]
    local = address and stage in ("index", "pack") and place[0] == "here"
    assert capsys.readouterr().out == (
        f"{stage}: runs here, since not all nodes can read data.root, {root}\n" if local else ""
    )


@pytest.mark.parametrize(
    ("mode", "place"),
    [("cold", ("here", None)), ("warm", ("here", None)), ("auto", ("cluster", "start"))],
)
def test_only_a_start_that_is_tried_is_worth_a_cluster(ran, mode, place):
    params = params_at("http://head:8265")
    start = params.start.model_copy(update={"mode": mode})
    _stages.run_stage("start", params.model_copy(update={"start": start}))
    assert ran == [place]
