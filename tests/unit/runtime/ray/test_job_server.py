import asyncio
import socket
import threading

import pytest
from aiohttp import web

from pipeline.errors import PipelineError
from pipeline.runtime.ray import job_server
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


@pytest.fixture
def serve():
    """Start an HTTP server that streams a log as a job server does; return a client of it.

    `stream` is called with a function that sends text to the reader of a log.
    """
    loop, runners = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def in_loop(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    def start(stream):
        async def version(_):
            return web.json_response({"version": "4", "ray_version": "2.60.0"})

        async def tail(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await stream(socket.send_str)
            return socket

        async def listen():
            app = web.Application()
            log = "/api/jobs/convoy-x/logs/tail"
            app.add_routes([web.get("/api/version", version), web.get(log, tail)])
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner.addresses[0][1]

        return JobServer(f"http://127.0.0.1:{in_loop(listen())}/")

    yield start
    for runner in runners:
        in_loop(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def read(server, over=None):
    lines = []
    server.tail("convoy-x", lines.append, over or threading.Event())
    return lines


def test_a_log_is_handed_on_as_it_comes_until_its_stream_ends(serve):
    came = threading.Event()

    async def stream(send):
        await send("one\ntw")
        await asyncio.to_thread(came.wait, 30)  # the first part is there before the second
        await send("o\n")

    server, lines = serve(stream), []

    def take(text):
        lines.append(text)
        came.set()

    server.tail("convoy-x", take, threading.Event())
    assert lines == ["one\ntw", "o\n"]


def test_a_log_is_no_longer_read_when_its_job_has_ended(serve):
    async def stream(send):
        while True:
            await send("more\n")

    server, lines, ended = serve(stream), [], threading.Event()

    def take(text):
        lines.append(text)
        if len(lines) == 3:
            ended.set()

    server.tail("convoy-x", take, ended)
    assert lines == ["more\n"] * 3


def test_a_log_of_which_nothing_comes_is_left(serve, monkeypatch):
    monkeypatch.setattr(job_server, "_ANSWER_S", 0.2)

    left = threading.Event()

    async def stream(send):
        await send("one\n")
        await asyncio.to_thread(left.wait, 30)

    assert read(serve(stream)) == ["one\n"]
    left.set()


def test_a_stream_that_breaks_is_left(serve):
    async def stream(send):
        await send("one\n")
        raise ConnectionResetError

    assert read(serve(stream)) == ["one\n"]


def test_the_address_of_the_params_is_asked_and_no_other(serve, closed, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", closed.address)
    monkeypatch.setenv("RAY_ADDRESS", closed.address)
    assert serve(None).versions() == {"version": "4", "ray_version": "2.60.0"}


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
