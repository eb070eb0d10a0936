import importlib
import os
import signal
import threading
import time

import pytest
from pydantic import create_model

from pipeline.runtime.session import interrupts
from pipeline.runtime.session.interrupts import run_here, run_in_thread, sigterm_interrupts
from tests.waiting import wait_until

BOTH = pytest.mark.parametrize("run", [run_here, run_in_thread])


def soon(act):
    threading.Timer(0.1, act).start()


def tell(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def until_interrupted():
    wait_until(lambda: False, what="for the signal")


@BOTH
def test_results_and_errors_come_back(run):
    nothing = {"ask": lambda: None, "worth_asking": lambda: True}
    assert run(lambda: 3, **nothing) == 3
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0, **nothing)


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_and_waits(number, run):
    asked = threading.Event()
    before = signal.getsignal(number)

    def work():
        tell(number)
        return asked.wait(5)

    assert run(work, ask=asked.set, worth_asking=lambda: True) is True
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("run", "case"),
    [
        *((run_here, case) for case in ("nothing to lose", "asked twice", "too slow")),
        *((run_in_thread, case) for case in ("nothing to lose", "asked twice", "too slow")),
        (run_in_thread, "nobody left"),
    ],
)
def test_what_does_not_end_in_order_is_left(run, case, monkeypatch):
    monkeypatch.setattr(interrupts, "_PATIENCE_S", 0.3 if case == "too slow" else 100.0)
    ended, asked = threading.Event(), []
    worth = {"nothing to lose": lambda: False, "nobody left": lambda: not asked}

    def work():
        tell()
        ended.wait(5)

    def ask():
        asked.append(1)
        if case == "asked twice":
            soon(tell)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(work, ask=ask, worth_asking=worth.get(case, lambda: True))
    assert time.monotonic() - start < 2
    assert len(asked) == (0 if case == "nothing to lose" else 1)
    ended.set()


def test_sigterm_interrupts_within_the_block():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        tell()
        until_interrupted()
    assert signal.getsignal(signal.SIGTERM) == before


@BOTH
def test_another_thread_leaves_signals_alone(run):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(run(lambda: 1, ask=lambda: None, worth_asking=lambda: True))
    )
    thread.start()
    thread.join()
    assert found == [1]


MODULE = """
import os, signal
os.kill(os.getpid(), signal.{name})
for _ in range(1000): pass
done = True
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_waits_for_the_end_of_an_import(name, tmp_path, monkeypatch):
    """In its midst, KeyboardInterrupt may be dropped, with a lock that is never released."""
    (tmp_path / f"slow_{name}.py").write_text(MODULE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        module = importlib.import_module(f"slow_{name}")
        assert module.done
        until_interrupted()


def test_a_signal_waits_until_a_class_of_values_is_built():
    """In its midst, pydantic makes an error of its own of a KeyboardInterrupt."""
    built = []

    class Signalling:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            os.kill(os.getpid(), signal.SIGTERM)
            return handler.generate_schema(int)

    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        built.append(create_model("Built", value=(Signalling, ...)))
        until_interrupted()
    assert built[0](value=1).value == 1
