import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.runtime.tracking.journal import (
    Position,
    Spool,
    held,
    left_behind,
    open_spool,
    spool_folder,
)
from tests.contract.imports import ROOT

CREATE = {"act": "create", "store": "s", "time_ms": 1, "folder": "", "experiment": "e"}


def metrics(step, **values):
    return {"act": "metrics", "time_ms": 10 * step, "step": step, "values": values}


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool" / "train-1.jsonl")
    assert spool.acquire()
    yield spool
    spool.release()


def test_entries_come_back_in_order_each_with_the_offset_of_the_next(spool):
    entries = [CREATE, metrics(1, loss=0.5), {"act": "tags", "values": {"é": "ü"}}]
    spool.append(*entries[:2])
    spool.append(entries[2])
    found = list(spool.entries())
    assert [entry for entry, _ in found] == entries
    for index, (_, offset) in enumerate(found):
        assert [entry for entry, _ in spool.entries(offset)] == entries[index + 1 :]


def test_numbers_that_json_does_not_know(spool):
    spool.append(metrics(1, loss=float("inf"), speed=float("nan")))
    ((entry, _),) = spool.entries()
    assert entry["values"]["loss"] == float("inf")
    assert entry["values"]["speed"] != entry["values"]["speed"]


def test_a_half_written_line_is_ignored_and_cut_before_the_next(spool):
    spool.append(CREATE, metrics(1, loss=0.5))
    with spool.path.open("ab") as file:
        file.write(b'{"act": "metrics", "ti')
    assert len(list(spool.entries())) == 2
    spool.release()
    again = Spool(spool.path)
    assert again.acquire()
    again.append(metrics(2, loss=0.4))
    assert [entry.get("step") for entry, _ in again.entries()] == [None, 1, 2]
    again.release()


def test_a_damaged_line_between_others_is_told_as_such(spool):
    spool.append(CREATE)
    with spool.path.open("ab") as file:
        file.write(b"\0\0\0\n[1]\n")
    spool.append(metrics(1, loss=0.5))
    assert [e["act"] for e, _ in spool.entries()] == ["create", "damaged", "damaged", "metrics"]


def test_what_it_says_of_itself(spool):
    assert spool.store == ""
    spool.append(CREATE, metrics(1, loss=0.5, acc=0.1), metrics(2, loss=0.4))
    assert (spool.store, spool.experiment, spool.status, spool.last_ms) == ("s", "e", None, 20)
    assert spool.values() == {("loss", 1), ("acc", 1), ("loss", 2)}
    assert spool.waiting == 4
    spool.append({"act": "end", "status": "KILLED", "time_ms": 30})
    assert spool.status == "KILLED"
    spool.append({"act": "resume", "store": "other", "time_ms": 40, "folder": "", "values": {}})
    assert (spool.store, spool.status) == ("other", None)


def test_the_position_is_that_of_one_store(spool):
    spool.append(CREATE, metrics(1, loss=0.5))
    assert spool.position() == Position("s")
    end = list(spool.entries())[-1][1]
    known = Position("s", end, "run", 1)
    spool.remember(known)
    assert spool.position() == known
    assert spool.waiting == 0
    spool.append({"act": "resume", "store": "other", "time_ms": 40, "folder": "", "values": {}})
    assert spool.position() == Position("other")  # which is told everything
    assert spool.waiting == 3
    spool.remember(replace(known, store="other"))
    spool.path.with_suffix(".position").write_text("{half")
    assert spool.position() == Position("other")


def test_it_is_over_when_it_has_ended_and_its_training_is_gone(spool, tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    spool.append(CREATE | {"folder": str(training)})
    assert not spool.over
    spool.append({"act": "end", "status": "FINISHED", "time_ms": 30})
    assert not spool.over
    training.rmdir()
    assert spool.over


def test_one_process_holds_it(spool):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from pipeline.runtime.tracking.journal import Spool, held;"
        "path = Path(sys.argv[2]); print(Spool(path).acquire(), held(path.parent))"
    )
    spool.append(CREATE)
    command = [sys.executable, "-c", code, str(ROOT), str(spool.path)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["False", "['train-1']"]
    assert list(left_behind(spool.path.parent)) == []
    spool.release()
    assert held(spool.path.parent) == []
    assert [left.id for left in left_behind(spool.path.parent)] == ["train-1"]


def test_a_training_finds_its_spool_again(tmp_path):
    spools, training = tmp_path / "spool", tmp_path / "runs" / "train-abc"
    training.mkdir(parents=True)
    first = open_spool(spools, training)
    assert first.id.startswith("train-abc-")
    first.append(CREATE)
    first.release()
    again = open_spool(spools, training)
    assert again.id == first.id
    again.delete()
    assert list(spools.iterdir()) == []
    # Its name stays the training's, so that its run is found again at the store.
    once_more = open_spool(spools, training)
    assert once_more.id == first.id
    once_more.release()


def test_a_training_that_nobody_can_go_on_with_has_a_spool_of_its_own(tmp_path):
    spools, training = tmp_path / "spool", tmp_path / "runs" / "train-abc"
    first, second = open_spool(spools, training), open_spool(spools, training)
    assert first.id != second.id
    assert not training.exists()
    first.release()
    second.release()


def test_a_spool_that_another_process_holds_on_to_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runtime.tracking.journal._PATIENCE_S", 0.1)
    training = tmp_path / "runs" / "train-abc"
    training.mkdir(parents=True)
    first = open_spool(tmp_path / "spool", training)
    second = open_spool(tmp_path / "spool", training)
    assert first.id != second.id
    first.release()
    second.release()


def test_spools_lie_beside_the_trainings_where_things_last(tmp_path, monkeypatch):
    assert spool_folder(".convoy/runs") == tmp_path / ".convoy/spool"
    assert spool_folder("/shared/runs") == Path("/shared/spool")
    copy = tmp_path / ".dvc/tmp/exps/one"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    assert spool_folder(".convoy/runs") == tmp_path / ".convoy/spool"


WRITER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.runtime.tracking.journal import Spool
spool = Spool(Path({path!r}))
assert spool.acquire()
step = 0
while True:
    step += 1
    spool.append({{"act": "metrics", "time_ms": step, "step": step, "values": {{"x" * 50: 1.0}}}})
    if step == 100: print("going", flush=True)
"""


def test_killed_in_the_middle_it_holds_whole_entries_in_order(tmp_path):
    path = tmp_path / "spool" / "train-1.jsonl"
    code = WRITER.format(root=str(ROOT), path=str(path))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "going\n"
    writer.kill()
    writer.wait()
    spool = Spool(path)
    assert spool.acquire(5)  # its lock went with the process
    steps = [entry["step"] for entry, _ in spool.entries()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 100
    assert json.loads(path.read_bytes().splitlines()[-1])["step"] == len(steps)
    assert path.stat().st_size == list(spool.entries())[-1][1]
    spool.release()
