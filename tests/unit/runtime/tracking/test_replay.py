"""Deliveries to a real SQLite store, and to servers that say no in several ways."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from pipeline.params import load_params
from pipeline.runtime.tracking.journal import Position, Spool
from pipeline.runtime.tracking.replay import Count, Delivery, StoreAwayError, _grouped
from pipeline.runtime.tracking.store import lasting_address, open_client
from tests.contract.imports import ROOT


def entries_of_a_run(store, experiment):
    create = {"act": "create", "store": store, "time_ms": 1000, "folder": ""}
    yield create | {"experiment": experiment, "name": "train", "tags": {"convoy.stage": "train"}}
    yield {"act": "params", "values": {"a": "1"}}
    data = {"name": "d", "digest": "1", "source": "s", "profile": "{}", "context": "training"}
    yield {"act": "datasets", "items": [data]}
    for step in (1, 2, 3):
        values = {"loss": 1 / step, "acc": float("nan")}
        yield {"act": "metrics", "time_ms": 1000 + step, "step": step, "values": values}
        yield {"act": "tags", "values": {"epoch": str(step)}}
    yield {"act": "end", "status": "FINISHED", "time_ms": 2000}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a SQLite store that has been migrated once for all tests."""
    tracking = load_params(ROOT / "params.yaml").tracking
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    tracking = tracking.model_copy(update={"uri": uri, "experiment": "other"})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_client(tracking)
    return tracking


@pytest.fixture
def tracking(store, tmp_path):
    return store.model_copy(update={"experiment": tmp_path.name})


@pytest.fixture
def said():
    return []


@pytest.fixture
def delivery(tracking, said):
    return Delivery(tracking, said.append)


@pytest.fixture
def spool(tracking, tmp_path):
    spool = Spool(tmp_path / "spool" / "train-1.jsonl")
    assert spool.acquire()
    spool.append(*entries_of_a_run(lasting_address(tracking.uri), tracking.experiment))
    yield spool
    spool.release()


def contents(tracking):
    """Return the runs of the experiment as plain values."""
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    found = []
    for run in client.search_runs([experiment.experiment_id]):
        histories = {
            name: sorted(
                (m.step, m.timestamp, str(m.value))
                for m in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        info = run.info
        times = (info.status, info.start_time, info.end_time)
        inputs = [i.dataset.name for i in run.inputs.dataset_inputs]
        found.append((info.run_id, times, run.data.params, run.data.tags, histories, inputs))
    return found


def test_however_often_it_is_delivered_from_wherever_the_store_is_the_same(
    delivery, spool, tracking
):
    positions = []
    last = delivery.settle(spool, spool.position(), positions.append)
    assert last == Count(6, 6)
    once = contents(tracking)
    ((_, times, params, tags, histories, inputs),) = once
    assert times == ("FINISHED", 1000, 2000)
    assert params == {"a": "1"}
    assert tags["epoch"] == "3"
    assert tags["convoy.records"] == "6 of 6"
    assert histories["loss"] == [(1, 1001, "1.0"), (2, 1002, "0.5"), (3, 1003, str(1 / 3))]
    assert histories["acc"] == [(1, 1001, "nan"), (2, 1002, "nan"), (3, 1003, "nan")]
    assert inputs == ["d"]
    # Killed after any step, before or after its position was kept, or without any position.
    for position in (spool.position(), *positions):
        delivery.settle(spool, position, positions.append)
        assert contents(tracking) == once


def test_a_delivery_goes_on_where_it_was(delivery, spool, tracking):
    delivery.deliver(spool, spool.position(), spool.remember)
    assert spool.waiting == 0
    before = spool.position()
    spool.append({"act": "resume", "store": spool.store, "time_ms": 3000, "values": {"x": "y"}})
    delivery.deliver(spool, spool.position(), spool.remember)
    assert contents(tracking)[0][1][0] == "RUNNING"
    assert spool.position() == replace(before, offset=spool.position().offset)


def test_a_second_run_and_an_old_status_from_late_requests_are_put_right(delivery, spool, tracking):
    position = delivery.deliver(spool, spool.position(), spool.remember)
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    client.create_run(experiment, tags={"convoy.spool": spool.id})
    client.update_run(position.run_id, status="RUNNING")
    assert delivery.count(spool, position) == Count(6, 6)
    ((run_id, times, *_),) = contents(tracking)
    assert run_id == position.run_id
    assert times == ("FINISHED", 1000, 2000)


def test_a_run_that_a_lost_answer_made_is_found_again(delivery, spool, tracking, said):
    delivery.deliver(spool, spool.position(), said.append)
    first = contents(tracking)[0][0]
    again = delivery.deliver(spool, spool.position(), spool.remember)
    assert again.run_id == first


def test_what_was_lost_at_the_store_is_delivered_once_more(delivery, spool, tracking):
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    empty = client.create_run(experiment, tags={"convoy.spool": spool.id}).info.run_id
    end = list(spool.entries())[-1][1]
    believed = Position(spool.store, end, empty)
    assert delivery.settle(spool, believed, spool.remember) == Count(6, 6)


def test_a_damaged_line_is_told_and_passed_over(delivery, spool, tracking, said):
    with spool.path.open("ab") as file:
        file.write(b"\0\0\n")
    spool.append({"act": "end", "status": "FAILED", "time_ms": 3000})
    delivery.deliver(spool, spool.position(), spool.remember)
    assert contents(tracking)[0][1][0] == "FAILED"
    assert "lacks damaged lines of" in said[0]


class No(BaseHTTPRequestHandler):
    """Says no to everything, like a proxy whose server is away."""

    status, body = 404, b"<html>not here</html>"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815 - named by http.server

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>not here</html>"),
        (400, b"bad"),
        (403, b"Invalid Host header"),
        (401, b'{"error_code": "UNAUTHENTICATED", "message": "who are you"}'),
        (429, b"later"),
        (500, b"broken"),
        (503, b"away"),
        (200, b"<html>log in first</html>"),
    ],
)
def test_what_is_no_answer_of_mlflow_loses_nothing(tracking, tmp_path, said, status, body):
    server = HTTPServer(("127.0.0.1", 0), type("Says", (No,), {"status": status, "body": body}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    delivery = Delivery(tracking.model_copy(update={"uri": address}), said.append)
    spool = Spool(tmp_path / "spool" / "train-1.jsonl")
    assert spool.acquire()
    spool.append(*entries_of_a_run(address, "e"))
    start = next(iter(spool.entries()))[1]
    for position in (spool.position(), Position(address, start, "0" * 32)):
        with pytest.raises(StoreAwayError) as raised:
            delivery.deliver(spool, position, spool.remember)
        assert not raised.value.answers
        assert not spool.path.with_suffix(".position").exists()
    assert said == []
    server.shutdown()
    server.server_close()
    spool.release()


class Store:
    """A client whose store knows the run and fails in the given way when metrics come."""

    def __init__(self, *codes):
        from mlflow.exceptions import MlflowException

        self.failures = [MlflowException("no", error_code=code) for code in codes]
        self.taken = []

    def get_run(self, run_id):
        assert run_id == "run"
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage="active"))

    def log_batch(self, run_id, *, synchronous, metrics=(), tags=()):
        assert (run_id, synchronous) == ("run", True)
        assert not (metrics and tags)
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [metric.step for metric in metrics]


def test_a_store_that_cannot_take_a_request_now_gets_it_again(delivery, spool, said):
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

    delivery._connected = store = Store(INTERNAL_ERROR, *[BAD_REQUEST] * 2)
    entries = list(spool.entries())
    position = Position(spool.store, entries[2][1], "run")  # metrics come next
    spool.path.write_bytes(spool.path.read_bytes()[: entries[8][1]])
    for _ in range(3):
        with pytest.raises(StoreAwayError) as raised:
            delivery.deliver(spool, position, spool.remember)
        assert raised.value.answers
    delivery.deliver(spool, position, spool.remember)
    assert store.taken == [1, 1, 2, 2, 3, 3]
    assert said == []


def metrics(step, count):
    return {"act": "metrics", "step": step, "values": {str(i): 0.0 for i in range(count)}}


def test_metrics_and_tags_go_together_as_far_as_one_call_takes():
    tag, end = {"act": "tags", "values": {"a": "b"}}, {"act": "end"}
    entries = [
        metrics(1, 600),
        tag,
        metrics(2, 399),
        metrics(3, 1),
        tag,
        end,
        metrics(4, 2000),
        tag,
    ]
    groups = list(_grouped([(entry, number) for number, entry in enumerate(entries)]))
    assert groups == [
        (entries[:3], 2),
        (entries[3:5], 4),
        ([end], 5),
        ([entries[6]], 6),
        ([tag], 7),
    ]


def test_a_value_that_a_database_refuses_again_and_again_is_passed_over(delivery, spool, said):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    class Picky(Store):
        def log_batch(self, run_id, *, synchronous, metrics=(), tags=()):
            if any((metric.key, metric.step) == ("acc", 2) for metric in metrics):
                raise MlflowException("no", error_code=BAD_REQUEST)
            super().log_batch(run_id, synchronous=synchronous, metrics=metrics, tags=tags)

    delivery._connected = store = Picky()
    entries = list(spool.entries())
    spool.path.write_bytes(spool.path.read_bytes()[: entries[8][1]])
    position = Position(spool.store, entries[2][1], "run")
    for _ in range(2):
        with pytest.raises(StoreAwayError):
            delivery.deliver(spool, position, spool.remember)
    assert delivery.deliver(spool, position, spool.remember).refused == 1
    assert sorted(store.taken) == [1, 1, 2, 3, 3]
    assert len(said) == 1
    assert "goes without metrics such as acc: no" in said[0]


def test_a_spool_whose_beginning_is_damaged_blocks_nothing(delivery, spool, said):
    first = next(iter(spool.entries()))[1]
    spool.path.write_bytes(b"\0" * (first - 1) + spool.path.read_bytes()[first - 1 :])
    delivery._connected = Store()
    position = Position(spool.store)
    assert delivery.deliver(spool, position, spool.remember).run_id is None
    assert spool.waiting == 0
    assert len(said) == 1
