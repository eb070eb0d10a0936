import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.tracking.journal import (
    Journal,
    journal_folder,
    open_journal,
    unsettled,
)
from tests.contract.imports import ROOT
from tests.waiting import wait_until

START = {"act": "start", "store": "s", "time_ms": 1, "folder": "", "experiment": "e"}


def metrics(step, **values):
    return {"act": "metrics", "time_ms": 10 * step, "step": step, "values": values}


def read(path):
    """Return the journal as another process reads it."""
    journal = Journal(path)
    journal.read()
    return journal


def seen(journals):
    """Return the journals that are not delivered, and whether their processes are gone."""
    return {journal.id: left for journal, left in unsettled(journals)}


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal" / "train-1.jsonl")
    assert journal.acquire()
    yield journal
    journal.release()


def test_entries_come_back_in_order(journal):
    entries = [START, metrics(1, loss=0.5), {"act": "tags", "values": {"é": "ü"}}]
    for entry in entries:
        journal.append(entry)
    assert journal.entries == entries
    journal.release()
    assert read(journal.path).entries == entries
    assert [json.loads(line) for line in journal.path.read_text().split("\n")[1:]] == entries


def test_numbers_that_json_does_not_know(journal):
    journal.append(metrics(1, loss=float("inf"), speed=float("nan")))
    journal.release()
    (entry,) = read(journal.path).entries
    assert entry["values"]["loss"] == float("inf")
    assert entry["values"]["speed"] != entry["values"]["speed"]


def test_what_it_says_of_itself(journal):
    assert (journal.start["store"], journal.ended, journal.waiting) == ("", False, 0)
    for entry in (START, metrics(1, loss=0.5, acc=0.1), metrics(2, loss=0.4)):
        journal.append(entry)
    assert (journal.start["store"], journal.start["experiment"]) == ("s", "e")
    assert journal.values == {("loss", 1): (0.5, 10), ("acc", 1): (0.1, 10), ("loss", 2): (0.4, 20)}
    assert journal.waiting == 4
    journal.delivered = 2
    assert journal.waiting == 1
    journal.append({"act": "end", "status": "KILLED", "time_ms": 30})
    assert journal.ended
    journal.append(START | {"store": "other"})
    assert (journal.start["store"], journal.ended) == ("other", False)


def test_the_count_is_complete_when_the_store_has_every_value_and_none_was_lost(journal):
    for entry in (START, metrics(1, loss=0.5, acc=0.1), metrics(2, loss=0.4)):
        journal.append(entry)
    journal.stored = 2
    assert (journal.count, journal.complete) == ("2 of 3", False)
    journal.stored = 3
    assert (journal.count, journal.complete) == ("3 of 3", True)
    journal.whole = False
    assert (journal.count, journal.complete) == ("3 of more than 3", False)


def cut_short(monkeypatch, path, after):
    """Let the disk take only `after` more bytes of a file, as a full one does."""

    class Full:
        def __init__(self, file):
            self.file, self.left = file, after

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            return self.file.write(data[: self.left])

    real = Path.open
    monkeypatch.setattr(type(path), "open", lambda self, *a, **k: Full(real(self, *a, **k)))


@pytest.mark.parametrize("taken", [0, 1, 2, 20])
def test_a_write_that_is_cut_short_is_noticed_and_damages_no_other_entry(
    journal, monkeypatch, taken
):
    journal.append(START)
    journal.append(metrics(1, loss=0.5))
    with monkeypatch.context() as patch:
        cut_short(patch, journal.path, taken)
        with pytest.raises(OSError, match="No space left on device"):
            journal.append(metrics(2, loss=0.25))
    assert not journal.whole
    assert journal.values == {("loss", 1): (0.5, 10)}
    journal.append({"act": "end", "status": "FAILED", "time_ms": 30})
    journal.release()
    again = read(journal.path)
    assert [entry["act"] for entry in again.entries] == ["start", "metrics", "end"]
    again.stored = 1
    assert again.count == "1 of more than 1"


def test_half_an_entry_is_noticed_by_another_process(journal):
    """As when nothing more could be written, not even the run's end."""
    journal.append(START)
    with journal.path.open("ab") as file:
        file.write(b'\n{"act": "metrics", "ti')
    journal.release()
    again = read(journal.path)
    assert again.entries == [START]
    assert not again.whole


def test_a_damaged_line_between_others_is_passed_over_and_noticed(journal):
    journal.append(START)
    with journal.path.open("ab") as file:
        file.write(b'\n\0\0\0\n[1]\n{"step": 1}')
    journal.append(metrics(1, loss=0.5))
    journal.release()
    again = read(journal.path)
    assert [entry["act"] for entry in again.entries] == ["start", "metrics"]
    assert not again.whole


def test_a_full_disk_costs_the_entry_that_did_not_fit_and_no_other(small_disk):
    journal = Journal(small_disk / "journal" / "train-1.jsonl")
    assert journal.acquire()
    journal.append(START)
    written = 0
    with pytest.raises(OSError, match="No space left"):
        while True:
            journal.append(metrics(written + 1, **{"x" * 90: 1.0}))
            written += 1
    assert written > 100
    assert not journal.whole
    journal.release()
    again = read(journal.path)
    assert [entry["step"] for entry in again.entries[1:]] == list(range(1, written + 1))
    assert not again.whole


def test_one_process_holds_it(journal):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from pipeline.runtime.tracking.journal import unsettled;"
        "print({j.id: left for j, left in unsettled(Path(sys.argv[2]))})"
    )
    journal.append(START)
    command = [sys.executable, "-c", code, str(ROOT), str(journal.path.parent)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert asked.stdout == "{'train-1': False}\n"
    assert seen(journal.path.parent) == {"train-1": False}
    journal.release()
    assert seen(journal.path.parent) == {"train-1": True}


def test_a_training_finds_its_journal_again(tmp_path):
    journals, training = tmp_path / "journal", tmp_path / "runs" / "train-abc"
    training.mkdir(parents=True)
    first = open_journal(journals, training)
    assert first.id.startswith("train-abc-")
    first.append(START | {"folder": str(training)})
    first.release()
    again = open_journal(journals, training)
    assert (again.id, len(again.entries)) == (first.id, 1)
    # Delivered, it stays for the training, which may go on, and nobody delivers it again.
    again.retire()
    assert again.path.exists()
    assert seen(journals) == {}
    once_more = open_journal(journals, training)
    assert (once_more.id, once_more.entries) == (first.id, first.entries)
    once_more.append(metrics(1, loss=0.5))
    once_more.release()
    assert seen(journals) == {first.id: True}
    # Where the training is gone, nothing is left.
    shutil.rmtree(training)
    once_more.retire()
    assert list(journals.iterdir()) == []


def test_a_delivered_journal_is_deleted_when_its_training_is_gone(tmp_path):
    journals, training = tmp_path / "journal", tmp_path / "runs" / "train-abc"
    training.mkdir(parents=True)
    journal = open_journal(journals, training)
    journal.append(START | {"folder": str(training)})
    journal.retire()
    assert seen(journals) == {}
    assert journal.path.exists()
    shutil.rmtree(training)
    assert seen(journals) == {}
    assert list(journals.iterdir()) == []


def test_a_training_that_cannot_go_on_has_a_journal_of_its_own(tmp_path):
    journals, training = tmp_path / "journal", tmp_path / "runs" / "train-abc"
    first, second = open_journal(journals, training), open_journal(journals, training)
    assert first.id != second.id
    assert not training.exists()
    first.release()
    second.release()


@pytest.mark.parametrize("gone", [False, True])
def test_a_training_goes_on_with_a_journal_that_another_process_delivers(tmp_path, gone):
    """It waits for nobody, and what it writes meanwhile is neither lost nor taken as delivered."""
    training = tmp_path / "runs" / "train-abc"
    training.mkdir(parents=True)
    other = open_journal(tmp_path / "journal", training)
    other.append(START | {"folder": str(training)})
    own = open_journal(tmp_path / "journal", training)
    assert own.id == other.id
    own.append(metrics(1, loss=0.5))
    if gone:
        shutil.rmtree(training)
    other.retire()
    assert seen(other.path.parent) == {own.id: True}
    assert [entry["act"] for entry in read(own.path).entries] == ["start", "metrics"]
    assert own.acquire()
    own.release()


def test_journals_lie_beside_the_trainings_where_things_last(tmp_path, monkeypatch):
    assert journal_folder(".convoy/runs") == tmp_path / ".convoy/journal"
    assert journal_folder("/shared/runs") == Path("/shared/journal")
    copy = tmp_path / ".dvc/tmp/exps/one"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    assert journal_folder(".convoy/runs") == tmp_path / ".convoy/journal"


WRITER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.runtime.tracking.journal import Journal
journal = Journal(Path({path!r}))
assert journal.acquire()
step = 0
while True:
    step += 1
    journal.append({{"act": "metrics", "time_ms": step, "step": step, "values": {{"x" * 50: 1.0}}}})
    if step == 100: print("going", flush=True)
"""


def test_killed_in_the_middle_it_holds_whole_entries_in_order(tmp_path):
    path = tmp_path / "journal" / "train-1.jsonl"
    code = WRITER.format(root=str(ROOT), path=str(path))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "going\n"
    writer.kill()
    writer.wait()
    journal = Journal(path)
    wait_until(journal.acquire)  # its lock goes with the process
    journal.read()
    steps = [entry["step"] for entry in journal.entries]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 100
    assert json.loads(path.read_bytes().split(b"\n")[-1])["step"] == len(steps)
    assert journal.whole
    journal.release()
