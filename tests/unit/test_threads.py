import threading

import pytest

from pipeline.threads import in_background


def test_a_block_runs_beside_its_thread_and_waits_for_it():
    begun, finished = threading.Event(), []

    def work(ended):
        begun.set()
        assert ended.wait(60)
        finished.append(threading.current_thread())

    with in_background(work):
        assert begun.wait(60)
        assert not finished
    (thread,) = finished
    assert not thread.is_alive()
    assert thread is not threading.current_thread()


def test_a_block_that_fails_ends_its_thread():
    finished = []
    with (
        pytest.raises(ZeroDivisionError),
        in_background(lambda ended: finished.append(ended.wait(60))),
    ):
        raise ZeroDivisionError
    assert finished == [True]
