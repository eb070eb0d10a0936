import json
from pathlib import Path

import pytest

from pipeline.runtime.session.event_log import EventLog, following
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.training_state import EpochProgress
from tests.waiting import wait_until

BF16 = Arithmetic("bf16", "channels_last")
FIRST, SECOND = {"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}


class Reader:
    def __init__(self):
        self.seen = []

    def begin(self, logs):  # noqa: ARG002
        raise AssertionError("nobody's business here")

    def compute(self, arithmetic, text):
        self.seen.append((arithmetic, text))

    def fact(self, name, text):
        self.seen.append((name, text))

    def record(self, record):
        self.seen.append(record)

    def epoch_progress(self, epoch_progress):
        self.seen.append(epoch_progress)


class Counted(type(Path())):
    """A path that counts how often it is opened to be read."""

    looks = 0

    def open(self, mode="r", **how):
        self.looks += mode == "r"
        return super().open(mode, **how)


def test_what_is_written_is_read(tmp_path):
    path, reader = Counted(tmp_path / "log"), Reader()
    path.write_text('{"fact": ["old", "news"]}\n')
    with following(path, reader):
        assert not path.exists()
        log = EventLog(path, [FIRST])
        assert path.exists()
        log.compute(BF16, "bf16 \u00b1")
        log.fact("resumed", "goes on")
        log.epoch_progress(EpochProgress(2, 10, 20, None))
        wait_until(lambda: len(reader.seen) == 4)
        with path.open("a") as file:
            file.write(json.dumps({"record": SECOND})[:9])  # half a line
            file.flush()
            looks = path.looks
            wait_until(lambda: path.looks >= looks + 2)  # the first of them is over
            assert len(reader.seen) == 4
            file.write(json.dumps({"record": SECOND})[9:] + "\n")
    assert reader.seen == [
        FIRST,
        (BF16, "bf16 \u00b1"),
        ("resumed", "goes on"),
        EpochProgress(2, 10, 20, None),
        SECOND,
    ]


def test_a_restarted_worker_starts_a_new_log(tmp_path):
    path, reader = tmp_path / "log", Reader()
    with following(path, reader):
        EventLog(path, []).record(FIRST)
        wait_until(lambda: reader.seen == [FIRST])
        EventLog(path, [FIRST]).record(SECOND)  # as long as before, and longer
    assert reader.seen == [FIRST, FIRST, SECOND]


def test_what_the_reader_raises_is_not_lost(tmp_path):
    reader = Reader()
    reader.record = None
    with pytest.raises(TypeError), following(tmp_path / "log", reader):
        EventLog(tmp_path / "log", [FIRST])
