import socket
import threading

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.ray.job_server import JobServer, ServerAwayError
from pipeline.runtime.ray.torchrun import World, torchrun_world
from tests.job_server import ended


@pytest.mark.parametrize("address", ["head:6379", "auto", "ray://head:10001", "http://", ""])
def test_an_address_of_something_else(address):
    with pytest.raises(PipelineError, match=rf"resources\.address is {address}, expected the"):
        JobServer(address)


@pytest.fixture
def closed():
    """A server on a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return JobServer(f"http://127.0.0.1:{free.getsockname()[1]}/")


def test_nobody_answers(closed):
    with pytest.raises(
        ServerAwayError, match=rf"no job server answers at resources\.address {closed.address} \(.*"
    ):
        closed.versions()
    lines = []
    closed.tail("convoy-x", lines.append, threading.Event())
    assert lines == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Request failed with status code 401: Unauthorized: no\ntoken"), "its token"),
        (ConnectionResetError("reset"), "no job server answers"),
        (RuntimeError("status code 500: GCS\nis away"), "answers: status code 500: GCS is away"),
    ],
)
def test_errors_of_rays_client_are_one_line(closed, monkeypatch, error, said):
    def fail():
        raise error

    monkeypatch.setattr(closed, "_connect", fail)
    with pytest.raises(PipelineError, match=said):
        closed.logs("convoy-x")


def test_a_job_that_the_server_does_not_know(closed, monkeypatch):
    def fail():
        raise RuntimeError("Request failed with status code 404: Job convoy-x does not exist.")

    monkeypatch.setattr(closed, "_connect", fail)
    assert closed.state("convoy-x") is None


@pytest.mark.parametrize(
    ("exit_code", "message", "reason"),
    [
        (-9, "Job driver died\nconvoy: x", "its driver was killed by signal 9"),
        (2, "failed with exit code 2, logs:\nconvoy: first\nconvoy:  last \nend", "last"),
        (1, "\nJob entrypoint\tfailed\nTraceback", "Job entrypoint failed"),
        (1, "", "exit code 1"),
        (None, "", "exit code None"),
    ],
)
def test_why_a_job_failed(exit_code, message, reason):
    assert ended("convoy-x", "FAILED", exit_code, message).reason == reason


def test_the_world_of_torchrun(monkeypatch):
    given = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert torchrun_world() is None  # a variable of another program's
    monkeypatch.setenv("MASTER_ADDR", "host")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert torchrun_world() == World(rank=3, size=4, local_size=2)
