import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from pipeline.runtime.storage import lease
from pipeline.runtime.storage.lease import Claim, LeaseTakenError, held_lease, holder
from pipeline.runtime.storage.shared import Storage
from tests.waiting import wait_until

FOLDER = "retraining/model/lock"


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "storage"))


def elsewhere(**values):
    """A claim of a process on another machine."""
    claim = replace(Claim.mine(), machine="other 1", host="other", held=True, renewed=time.time())
    return replace(claim, **values)


def test_a_second_one_is_told_who_holds_it_and_since_when(storage):
    with held_lease(storage, FOLDER):
        claim = holder(storage, FOLDER)
        with (
            pytest.raises(LeaseTakenError, match=rf"process {os.getpid()} on \S+, since 20\S+,"),
            held_lease(storage, FOLDER),
        ):
            pass
        assert holder(storage, FOLDER) == claim
    assert holder(storage, FOLDER) is None
    assert storage.names(FOLDER) == []


def test_an_error_within_gives_it_back(storage):
    with pytest.raises(ZeroDivisionError), held_lease(storage, FOLDER):
        _ = 1 / 0
    assert storage.names(FOLDER) == []


def _hold(uri, begin, leave, log):
    begin.wait()
    try:
        with held_lease(Storage(uri), FOLDER):
            log.put("held")
            leave.wait()
    except LeaseTakenError:
        log.put("left")


def test_of_many_at_once_exactly_one_holds_it(storage):
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        begin, leave, log = context.Event(), context.Event(), context.Queue()
        processes = [
            context.Process(target=_hold, args=(storage.uri, begin, leave, log)) for _ in range(6)
        ]
        for process in processes:
            process.start()
        begin.set()
        # Whoever holds it does so until all have answered.
        assert sorted(log.get(timeout=60) for _ in processes) == ["held", *["left"] * 5]
        leave.set()
        for process in processes:
            process.join()
        assert storage.names(FOLDER) == []


def test_that_of_a_killed_process_is_taken_over_at_once(storage):
    code = (
        "import sys\n"
        "from pipeline.runtime.storage.lease import held_lease\n"
        "from pipeline.runtime.storage.shared import Storage\n"
        f"with held_lease(Storage(sys.argv[1]), {FOLDER!r}):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"  # until it is killed
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, storage.uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LeaseTakenError), held_lease(storage, FOLDER):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    begin = time.monotonic()
    with held_lease(storage, FOLDER):
        assert len(storage.names(FOLDER)) == 1
    assert time.monotonic() - begin < lease._EXPIRY_S / 2


def test_one_on_another_machine_is_believed_while_it_is_renewed(storage):
    other = elsewhere()
    lease._write(storage, FOLDER, other)
    with pytest.raises(LeaseTakenError, match="on other"), held_lease(storage, FOLDER):
        pass
    assert holder(storage, FOLDER).id == other.id


def test_one_on_another_machine_whose_clock_is_late_is_believed_once_it_is_renewed(
    storage, monkeypatch
):
    monkeypatch.setattr(lease, "_PAUSE_S", 0.01)
    other = elsewhere(id="0")

    def write(renewals, late_s):
        claim = replace(other, renewals=renewals, renewed=time.time() - late_s)
        lease.Storage.write(
            storage, f"{FOLDER}/0.json", lease.json.dumps(lease.asdict(claim)).encode()
        )

    write(1, 300)
    ended = threading.Event()

    def renew():
        for renewals in range(2, 1000):
            if ended.wait(0.02):
                return
            # Late at first; then its clock is set.
            write(renewals, 300 if renewals < 20 else 0)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(LeaseTakenError), held_lease(storage, FOLDER):
            pass
    finally:
        ended.set()
        thread.join()


def test_one_on_another_machine_that_is_not_renewed_expires(storage, monkeypatch, capsys):
    monkeypatch.setattr(lease, "_EXPIRY_S", 0.3)
    monkeypatch.setattr(lease, "_RENEWED_S", 0.01)
    lease._write(storage, FOLDER, elsewhere())
    wait_until(lambda: lease._is_silent(holder(storage, FOLDER)))
    with held_lease(storage, FOLDER):
        assert len(storage.names(FOLDER)) == 1
    assert "to see whether process" in capsys.readouterr().out


def test_one_that_was_abandoned_long_ago_is_passed_over_at_once(storage, capsys):
    claim = elsewhere(renewed=time.time() - 2 * lease._ABANDONED_S, renewals=3)
    content = lease.json.dumps(lease.asdict(claim)).encode()
    storage.write(f"{FOLDER}/{claim.id}.json", content)
    assert holder(storage, FOLDER) is None
    with held_lease(storage, FOLDER):
        pass
    assert capsys.readouterr().out == ""


def test_who_was_taken_for_dead_notices_that_another_holds_it(storage, monkeypatch):
    monkeypatch.setattr(lease, "_RENEWED_S", 0.01)
    with held_lease(storage, FOLDER) as mine:
        mine.check()
        lease._write(storage, FOLDER, elsewhere(id="9"))
        wait_until(lambda: mine.is_lost)
        with pytest.raises(lease.PipelineError, match="another process has taken the lock"):
            mine.check()
    assert storage.names(FOLDER) == [f"{FOLDER}/9.json"]


def test_it_is_renewed(storage, monkeypatch):
    monkeypatch.setattr(lease, "_RENEWED_S", 0.01)
    with held_lease(storage, FOLDER):
        before = holder(storage, FOLDER).renewals
        wait_until(lambda: holder(storage, FOLDER).renewals > before + 2)
