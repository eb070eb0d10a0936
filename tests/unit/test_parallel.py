import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import parallel
from pipeline.errors import PipelineError
from pipeline.parallel import map_chunks
from tests.waiting import wait_until


def squares(numbers):
    return np.array(numbers) ** 2


def total_and_process(numbers):
    return sum(numbers), os.getpid()


def fail_at_seven(numbers):
    if 7 in numbers:
        raise PipelineError("seven is not liked")
    return list(numbers)


@pytest.mark.parametrize("workers", [None, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 10, 95])
def test_results_come_in_order(workers, count):
    items = list(range(count))
    pieces = list(map_chunks(squares, items, chunk=10, label="x", workers=workers))
    assert [n for piece in pieces for n in piece] == [n * n for n in items]
    assert [len(piece) for piece in pieces[:-1]] == [10] * (len(pieces) - 1)


def test_more_workers_are_other_processes():
    results = list(map_chunks(total_and_process, range(40), chunk=4, label="x", workers=2))
    assert [total for total, _ in results] == [sum(range(n, n + 4)) for n in range(0, 40, 4)]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(("first_s", "elsewhere"), [(0.05, False), (0.06, True)])
def test_only_long_work_starts_other_processes(monkeypatch, first_s, elsewhere):
    """Of 20 pieces 19 are left after the first: 0.95 s, or 1.14."""
    clock = SimpleNamespace(perf_counter=iter([0.0, first_s]).__next__)
    monkeypatch.setattr(parallel, "time", clock)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    results = list(map_chunks(total_and_process, range(20), chunk=1, label="x"))
    assert [total for total, _ in results] == list(range(20))
    assert results[0][1] == os.getpid()
    assert (results[-1][1] != os.getpid()) == elsewhere


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_worker_comes_through(workers):
    with pytest.raises(PipelineError, match=r"^seven is not liked$"):
        list(map_chunks(fail_at_seven, range(50), chunk=2, label="x", workers=workers))


def test_threads_stay_in_this_process():
    found = map_chunks(total_and_process, range(40), chunk=4, label="x", workers=3, threads=True)
    assert list(found) == [(sum(range(n, n + 4)), os.getpid()) for n in range(0, 40, 4)]


@pytest.mark.parametrize("threads", [False, True])
def test_a_reader_that_stops_early_leaves_nothing_running(threads):
    before = threading.active_count()  # other tests of this process may have left some
    pieces = map_chunks(squares, range(50), chunk=5, label="x", workers=2, threads=threads)
    assert next(pieces).tolist() == [0, 1, 4, 9, 16]
    pieces.close()
    # Those of a pool of processes end soon after it; that of progress bars stays.
    wait_until(lambda: threading.active_count() <= before + 1)
