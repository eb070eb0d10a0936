from datetime import UTC, datetime

import pyarrow as pa
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.retraining.record import Call
from pipeline.runtime.retraining.records import KNOWN, Accepted, Open, Records
from pipeline.runtime.storage.shared import Storage

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def records(tmp_path):
    return Records(Storage(str(tmp_path / "storage")), "model")


def call(name, outcome="nothing", **values):
    return Call(id=name, begun=NOW, ended=NOW, host="h", outcome=outcome, reasons=(), **values)


def images(*contents):
    rows = [{"path": c, "label": "a", "sha256": c, "arrived": NOW} for c in contents]
    return pa.Table.from_pylist(rows, KNOWN)


def test_at_first_there_is_nothing(records):
    assert records.history() == []
    assert records.open() is None
    assert records.accepted() is None
    assert records.waiting() == {}


def test_calls_come_back_in_order(records):
    records.append(call("1", metric="macro_f1"))
    records.append(call("2", "held"))
    assert [(one.id, one.exit_code) for one in records.history()] == [("1", 3), ("2", 5)]
    assert records.history()[0] == call("1", metric="macro_f1")


def test_models_have_histories_of_their_own(records):
    records.append(call("1"))
    assert Records(records.storage, "other").history() == []


def test_a_line_of_something_else_is_named(records, tmp_path):
    records.append(call("1"))
    file = tmp_path / "storage" / "retraining" / "model" / "history.jsonl"
    file.write_text(file.read_text() + '{"id": 5}\n')
    with pytest.raises(PipelineError, match=r"history\.jsonl line 2 is no record of a call"):
        records.history()


def test_what_a_person_agreed_to_lasts_until_a_training_has_ended(records):
    agreed = Accepted(keys=("drift", "new_class x"), call="0")
    records.accept(agreed)
    records.begin(Open(id="1", begun=NOW, host="h", doing="looked"))
    records.append(call("1", "failed"))
    assert records.open() is None
    assert records.accepted() == agreed
    records.append(call("2", "promoted", trained=True))
    assert records.accepted() is None
    records.accept(agreed)
    records.forget_accepted()
    assert records.accepted() is None


def test_images_come_back_and_old_tables_go(records):
    names = [records.keep_known(str(number), images(str(number))) for number in range(6)]
    assert records.known(names[0]) == images("0")
    records.tidy(names[1])
    records.keep_held("7", images("7"))
    assert records.held("7") == images("7")
    there = [name.rpartition("/")[2] for name in records.storage.names("retraining/model/known")]
    assert there == [names[number] for number in (1, 3, 4, 5)]


def test_a_table_that_is_lost_or_damaged_is_named(records):
    name = records.keep_known("1", images("0"))
    records.storage.write(f"retraining/model/known/{name}", b"x")
    for lost in (name, "gone.parquet"):
        with pytest.raises(PipelineError, match=rf"known/{lost} is gone or damaged .* restore it"):
            records.known(lost)


def test_notices_wait_in_order_until_they_are_delivered(records):
    for name in ("2", "1"):
        records.post(name, name.encode())
    assert list(records.waiting().items()) == [("1", b"1"), ("2", b"2")]
    records.delivered("1")
    assert list(records.waiting()) == ["2"]
