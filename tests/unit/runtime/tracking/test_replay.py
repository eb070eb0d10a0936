"""Replays at a real SQLite store, and at servers that say no in several ways."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from pipeline.runtime.tracking import replay as module
from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.replay import Replay, StoreAwayError, StoreBusyError
from pipeline.runtime.tracking.store import lasting_address, open_client


def entries_of_a_run(store, experiment):
    start = {"act": "start", "store": store, "time_ms": 1000, "folder": "", "name": "train"}
    data = {"name": "d", "digest": "1", "source_type": "local", "source": "{}", "profile": "{}"}
    start |= {"experiment": experiment, "tags": {"convoy.stage": "train"}, "params": {"a": "1"}}
    yield start | {"datasets": {"training": data}}
    for step in (1, 2, 3):
        values = {"loss": 1 / step, "acc": float("nan")}
        yield {"act": "metrics", "time_ms": 1000 + step, "step": step, "values": values}
        yield {"act": "tags", "values": {"epoch": str(step)}}
    yield {"act": "end", "status": "FINISHED", "time_ms": 2000}


@pytest.fixture
def tracking(store, tmp_path):
    return store.model_copy(update={"experiment": tmp_path.name})


@pytest.fixture
def said():
    return []


@pytest.fixture
def replay(tracking, said):
    return Replay(tracking, said.append)


@pytest.fixture
def write(tmp_path):
    """Return a function that makes a journal of the test's one run, from its beginning."""
    journals = []

    def write(entries):
        for journal in journals:
            journal.retire()
        journals.append(Journal(tmp_path / "journal" / "train-1.jsonl"))
        assert journals[-1].acquire()
        for entry in entries:
            journals[-1].append(entry)
        return journals[-1]

    yield write
    journals[-1].release()


@pytest.fixture
def entries(tracking):
    return list(entries_of_a_run(lasting_address(tracking.uri), tracking.experiment))


@pytest.fixture
def journal(write, entries):
    return write(entries)


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


def test_however_often_it_is_replayed_from_wherever_the_store_is_the_same(
    tracking, said, write, entries
):
    journal = write(entries)
    Replay(tracking, said.append).deliver(journal)
    assert journal.count == "6 of 6"
    once = contents(tracking)
    ((_, times, params, tags, histories, inputs),) = once
    assert times == ("FINISHED", 1000, 2000)
    assert params == {"a": "1"}
    assert tags["epoch"] == "3"
    assert tags["convoy.records"] == "6 of 6"
    assert histories["loss"] == [(1, 1001, "1.0"), (2, 1002, "0.5"), (3, 1003, str(1 / 3))]
    assert histories["acc"] == [(1, 1001, "nan"), (2, 1002, "nan"), (3, 1003, "nan")]
    assert inputs == ["d"]
    for delivered in range(len(entries) + 1):  # by a process that was killed then
        Replay(tracking, said.append).deliver(write(entries[:delivered]))
        Replay(tracking, said.append).deliver(write(entries))
        assert contents(tracking) == once
    assert said == []


def test_a_delivery_goes_on_where_it_was(replay, journal, tracking, entries):
    replay.deliver(journal)
    assert journal.waiting == 0
    run_id = journal.run_id
    journal.append(entries[0] | {"params": {}, "datasets": {}, "tags": {"x": "y"}})
    assert journal.waiting == 1
    replay.deliver(journal)
    assert contents(tracking)[0][1][0] == "RUNNING"
    assert contents(tracking)[0][3]["x"] == "y"
    assert (journal.run_id, journal.waiting) == (run_id, 0)


def test_a_second_run_and_an_old_status_from_late_requests_are_put_right(
    tracking, said, write, entries
):
    journal = write(entries)
    Replay(tracking, said.append).deliver(journal)
    first = journal.run_id
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    journal.delivered -= 1  # the answer to the last request is still missing
    client.create_run(experiment, tags={"convoy.journal": journal.id})
    client.update_run(journal.run_id, status="RUNNING")
    Replay(tracking, said.append).deliver(journal)
    ((run_id, times, *_),) = contents(tracking)
    assert run_id == first
    assert times == ("FINISHED", 1000, 2000)


def test_what_was_lost_at_the_store_is_delivered_once_more(replay, journal, tracking):
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    journal.run_id = client.create_run(experiment, tags={"convoy.journal": journal.id}).info.run_id
    journal.delivered = len(journal.entries) - 1
    replay.deliver(journal)
    assert journal.count == "6 of 6"
    assert len(contents(tracking)) == 1


def test_a_damaged_line_makes_the_count_say_that_something_is_missing(
    tracking, said, write, entries
):
    journal = write(entries)
    text = journal.path.read_bytes()
    journal.path.write_bytes(text.replace(json.dumps(entries[3]).encode(), b"\0\0"))
    journal.read()
    Replay(tracking, said.append).deliver(journal)
    ((_, times, _, tags, _, _),) = contents(tracking)
    assert times[0] == "FINISHED"
    assert tags["convoy.records"] == "4 of more than 4"


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
def test_what_is_no_answer_of_mlflow_loses_nothing(tracking, write, said, status, body):
    server = HTTPServer(("127.0.0.1", 0), type("Says", (No,), {"status": status, "body": body}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    replay = Replay(tracking.model_copy(update={"uri": address}), said.append)
    journal = write(entries_of_a_run(address, "e"))
    for run_id, delivered in ((None, 0), ("0" * 32, 1)):
        journal.run_id, journal.delivered = run_id, delivered
        with pytest.raises(StoreAwayError) as raised:
            replay.deliver(journal)
        assert not isinstance(raised.value, StoreBusyError)
        assert journal.delivered == delivered
    assert said == []
    server.shutdown()
    server.server_close()


class Store:
    """A client whose store has the run and fails in the given way when metrics come."""

    def __init__(self, *codes):
        from mlflow.exceptions import MlflowException

        self.failures = [MlflowException("no", error_code=code) for code in codes]
        self.taken = []

    def get_experiment_by_name(self, _name):
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def search_runs(self, experiments, query):
        assert (experiments, query) == (["1"], "tags.`convoy.journal` = 'train-1'")
        run = SimpleNamespace(run_id="run")
        return [SimpleNamespace(info=run, data=SimpleNamespace(metrics={}))]

    def log_batch(self, run_id, *, synchronous, metrics=(), tags=()):
        assert (run_id, synchronous) == ("run", True)
        assert not (metrics and tags)
        assert len(metrics) <= 1000
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [metric.step for metric in metrics]


@pytest.fixture
def figures(journal, monkeypatch):
    """Return the journal of a run that has begun at the store and has not ended."""
    journal.run_id, journal.delivered = "run", 1
    del journal.entries[-1]
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    return journal


def test_a_store_that_cannot_take_a_request_now_gets_it_again(replay, figures, said):
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

    replay._client = store = Store(INTERNAL_ERROR, *[BAD_REQUEST] * 2)
    with pytest.raises(StoreBusyError):
        replay.deliver(figures)
    assert figures.delivered == 1
    replay.deliver(figures)
    assert store.failures == []
    assert store.taken == [1, 1, 2, 2, 3, 3]
    assert said == []


def test_a_value_that_a_database_refuses_again_and_again_is_passed_over(replay, figures, said):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    class Picky(Store):
        def log_batch(self, run_id, *, synchronous, metrics=(), tags=()):
            if any((metric.key, metric.step) == ("acc", 2) for metric in metrics):
                raise MlflowException("no", error_code=BAD_REQUEST)
            super().log_batch(run_id, synchronous=synchronous, metrics=metrics, tags=tags)

    replay._client = store = Picky()
    replay.deliver(figures)
    assert sorted(store.taken) == [1, 1, 2, 3, 3]
    assert len(said) == 1
    assert "goes without metrics such as acc: no" in said[0]


def test_one_value_that_two_processes_write_at_once_is_not_lost(replay, figures, said):
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    replay._client = store = Store(*[BAD_REQUEST] * 2)
    del figures.entries[2:]
    figures.entries[1]["values"] = {"loss": 1.0}
    replay.deliver(figures)
    assert (store.failures, store.taken, said) == ([], [1], [])


def test_a_run_with_figures_is_taken_rather_than_an_empty_second_one(
    tracking, said, write, entries
):
    """A process that takes over finds also what a request made that came late."""
    Replay(tracking, said.append).deliver(write(entries[:-1]))
    ((run_id, *_),) = contents(tracking)
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    for _ in range(5):
        client.create_run(experiment, tags={"convoy.journal": "train-1"})
    Replay(tracking, said.append).deliver(write(entries))
    assert [run[0] for run in contents(tracking)] == [run_id]


def test_many_values_go_in_few_calls(replay, figures):
    replay._client = store = Store()
    calls = []
    take = store.log_batch
    store.log_batch = lambda *a, **k: (
        calls.append(len(k.get("metrics", k.get("tags")))),
        take(*a, **k),
    )
    values = {str(number): 0.0 for number in range(600)}
    for step in (4, 5):
        figures.append({"act": "metrics", "time_ms": 1, "step": step, "values": values})
    replay.deliver(figures)
    assert calls == [1000, 206, 1]
    assert len(store.taken) == 6 + 1200


def test_a_journal_whose_beginning_is_lost_blocks_nothing(replay, journal, said):
    first = json.dumps(journal.entries[0]).encode()
    journal.path.write_bytes(journal.path.read_bytes().replace(first, b"\0" * len(first)))
    journal.release()
    assert list(replay.settle_left(journal.path.parent)) == []
    assert said == [f"{journal.path} is damaged: 10 records are lost"]
    assert not journal.path.exists()
