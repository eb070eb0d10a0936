import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs import preflight
from pipeline.runtime.jobs.preflight import Cluster, check_cluster
from pipeline.runtime.ray import probe
from pipeline.runtime.ray.job_server import ServerAwayError
from pipeline.runtime.storage.shared import Storage
from tests.job_server import FakeServer, ended

NODE = {"CPU": 4.0, "memory": 1e9}


@pytest.fixture
def server(monkeypatch):
    """A cluster that is as it should be; a test changes its answer."""
    monkeypatch.setattr(preflight, "_POLL_S", 0.0)
    fake = FakeServer()
    fake.versions = lambda: {"ray_version": version("ray")}
    fake.answer = {
        "python": platform.python_version(),
        "nodes": [NODE],
        "seen": [
            {
                "node": "node-1",
                "packages": {package: version(package) for package in preflight._SAME},
                "problem": None,
                "sees": None,
            }
        ],
    }
    fake.unseen = {}  # by node

    def submit(job, entrypoint, *, package, environment, metadata):
        assert package is None
        asked = json.loads(environment["CONVOY_PROBE"])["paths"]
        for node in fake.answer["seen"]:
            node["sees"] = [path not in fake.unseen.get(node["node"], ()) for path in asked]
        fake.submitted.append({"id": job, "entrypoint": entrypoint, "environment": environment})
        fake.log = f"a warning\nconvoy-probe: {json.dumps(fake.answer)}\n"
        fake.states[job] = ended(job, "RUNNING")
        fake.fates = [lambda name: ended(name, "SUCCEEDED", 0)]
        return True

    fake.submit = submit
    return fake


def lines(capsys, params, server, storage):
    """Return the lines of a check that fails."""
    with pytest.raises(PipelineError) as raised:
        check_cluster(params, server, storage)
    printed = capsys.readouterr().err.splitlines()
    plural = "" if len(printed) == 1 else "s"
    assert str(raised.value) == (
        f"the cluster at http://head:8265 cannot run this: {len(printed)} check{plural} failed;"
        " nothing was uploaded"
    )
    assert storage.names("") == []
    return printed


def test_a_cluster_that_is_well_is_asked_once(params, server, storage):
    found = check_cluster(params, server, storage)
    assert found == Cluster([NODE], {})  # data.root is of this machine
    asked = json.loads(server.submitted[0]["environment"]["CONVOY_PROBE"])
    assert (asked["uri"], asked["paths"]) == (storage.uri, [])
    assert storage.names("") == []
    assert check_cluster(params, server, storage) == found
    assert len(server.submitted) == 1
    # Asked again: on demand, with other params, with another storage, after a damaged verdict.
    check_cluster(params, server, storage, afresh=True)
    data = params.data.model_copy(update={"root": "/mnt"})
    check_cluster(params.model_copy(update={"data": data}), server, storage)
    check_cluster(params, server, Storage(storage.uri + "2"))
    Path(".convoy/preflight.json").write_text("[]")
    check_cluster(params, server, storage)
    assert len(server.submitted) == 5


def test_a_verdict_holds_for_ten_minutes(params, server, storage, monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr(preflight.time, "time", lambda: now_s[0])
    for now_s[0], asked in ((1000.0, 1), (1599.0, 1), (1601.0, 2), (900.0, 3)):
        check_cluster(params, server, storage)
        assert len(server.submitted) == asked


def test_another_python(params, server, storage, capsys):
    server.answer["python"] = "3.99.1"
    here = ".".join(platform.python_version_tuple()[:2])
    assert lines(capsys, params, server, storage) == [
        f"cluster: Python: {here} here, 3.99.1 in the cluster; use the same minor version"
    ]


def test_another_ray(params, server, storage, capsys):
    server.versions = lambda: {"ray_version": "2.1.0"}
    assert lines(capsys, params, server, storage) == [
        f"cluster: Ray: {version('ray')} here, 2.1.0 in the cluster; install the same version in"
        " both"
    ]


def test_other_packages(params, server, storage, capsys):
    server.answer["seen"][0]["packages"] |= {"torch": None, "pillow": "1.0"}
    assert lines(capsys, params, server, storage) == [
        f"cluster: torch: {version('torch')} here, none on node node-1; install"
        " infra/requirements.lock there",
        f"cluster: pillow: {version('pillow')} here, 1.0 on node node-1; install"
        " infra/requirements.lock there",
    ]


def test_too_few_resources(params, server, storage, capsys):
    resources = params.resources.model_copy(update={"workers": 2, "cpus_per_worker": 3})
    (line,) = lines(capsys, params.model_copy(update={"resources": resources}), server, storage)
    assert line == (
        "cluster: resources asks for 6 CPUs (2 workers), the cluster has 4 CPUs; lower"
        " resources.workers or what each gets in params.yaml"
    )


def test_a_storage_that_a_node_does_not_see(params, server, storage, capsys):
    server.answer["seen"][0]["problem"] = "it does not hold what was written from here"
    assert lines(capsys, params, server, storage) == [
        f"cluster: storage {storage.uri} cannot be used from node node-1: it does not hold what was"
        " written from here; let all nodes read and write it, with credentials in their environment"
    ]


def test_a_storage_of_this_machine_alone(params, server, storage, capsys):
    resources = params.resources.model_copy(update={"storage": ".convoy/runs"})
    (line,) = lines(capsys, params.model_copy(update={"resources": resources}), server, storage)
    assert line == (
        "cluster: resources.storage is .convoy/runs, a folder of this machine; set it to a folder"
        " that all nodes share, by its whole path, or to a bucket such as s3://BUCKET/convoy"
    )


def test_a_storage_that_cannot_be_written_is_not_waited_for(
    params, server, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("x")
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: pytest.fail("waits"))
    monkeypatch.setattr("pipeline.remote.time", clock)
    with pytest.raises(PipelineError, match="1 check failed"):
        check_cluster(params, server, Storage(str(tmp_path / "file")))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cluster: storage {tmp_path}/file refuses: [Errno 20] Not a directory")


def test_all_that_is_wrong_is_said_together(params, server, storage, capsys):
    server.versions = lambda: {"ray_version": "2.1.0"}
    server.answer["python"] = "3.99.1"
    server.answer["seen"][0]["packages"]["torch"] = "1.0"
    server.answer["seen"].append(server.answer["seen"][0] | {"node": "node-2", "problem": "gone"})
    resources = params.resources.model_copy(update={"workers": 9, "cpus_per_worker": 1})
    found = lines(capsys, params.model_copy(update={"resources": resources}), server, storage)
    beginnings = ["Ray: ", "Python: ", "resources asks", "torch: ", "torch: ", "storage "]
    assert len(found) == len(beginnings)
    for line, begin in zip(found, beginnings, strict=True):
        assert line.startswith(f"cluster: {begin}")


def test_a_cluster_that_does_not_answer_is_asked_nothing_more(params, server, storage, capsys):
    def away():
        raise ServerAwayError("no job server answers at resources.address http://head:8265")

    server.versions = away
    resources = params.resources.model_copy(update={"storage": "here"})
    found = lines(capsys, params.model_copy(update={"resources": resources}), server, storage)
    assert [line[:30] for line in found] == [
        "cluster: no job server answers",
        "cluster: resources.storage is ",
    ]
    assert server.submitted == []


def test_a_storage_whose_token_has_expired_is_no_cluster_that_refuses(
    params, server, storage, capsys, monkeypatch
):
    def refuse(self, name, content):
        raise PipelineError("storage x refuses: the token has expired")

    monkeypatch.setattr(Storage, "write", refuse)
    server.answer["python"] = "3.99.1"
    assert len(lines(capsys, params, server, storage)) == 2


def test_a_cluster_without_python(params, server, storage, capsys):
    submit = server.submit

    def fail(*args, **options):
        submit(*args, **options)
        server.log = "Traceback\nModuleNotFoundError: No module named 'ray'\n\n"

    server.submit = fail
    assert lines(capsys, params, server, storage) == [
        "cluster: the cluster at http://head:8265 cannot run Python with Ray: its last line was"
        " ModuleNotFoundError: No module named 'ray'; install Convoy's dependencies on all nodes"
    ]


def test_a_cluster_that_is_full(params, server, storage, capsys, monkeypatch):
    clock = iter(range(0, 10**6, 20))
    monkeypatch.setattr(preflight.time, "monotonic", lambda: float(next(clock)))
    submit = server.submit

    def wait(job, *args, **options):
        submit(job, *args, **options)
        server.states[job] = ended(job, "PENDING", message="waits for a slot")
        server.fates = []

    server.submit = wait
    (line,) = lines(capsys, params, server, storage)
    assert line == (
        "cluster: the cluster at http://head:8265 has not run a job of one line within 28 s (it is"
        " PENDING: waits for a slot); see ray status on its head"
    )
    assert len(server.stopped) == 1


def test_paths_that_not_all_nodes_see(params, server, storage):
    data = params.data.model_copy(update={"root": "/mnt"})
    params = params.model_copy(update={"data": data})
    server.answer["seen"].append(server.answer["seen"][0] | {"node": "node-2"})
    odd = os.fsdecode(b"/tmp/\xff")
    server.unseen = {"node-1": {odd}, "node-2": {"/data/2"}}
    paths = ["/data/1", "/data/2", odd]
    found = {"/mnt": True, "/data/1": True, "/data/2": False, odd: False}
    assert check_cluster(params, server, storage, paths).sees == found
    # A verdict holds for the paths that it names, and for those alone.
    for some in (paths, [odd], []):
        assert check_cluster(params, server, storage, some).sees == found
    assert len(server.submitted) == 1
    assert check_cluster(params, server, storage, ["/data/3"]).sees == {
        "/mnt": True,
        "/data/3": True,
    }
    assert check_cluster(params, server, storage, paths).sees == found
    assert len(server.submitted) == 3


def test_what_a_node_answers(storage, tmp_path):
    fsspec.filesystem("memory").pipe_file("/bucket/images/1.png", b"x")
    paths = [str(tmp_path), "/none", "memory://bucket/images", "memory://none", "nosuch://x"]
    asked = {"uri": storage.uri, "nonce": "abc", "paths": paths, "packages": ["ray", "none"]}
    found = probe.look(asked)
    assert found["packages"] == {"ray": version("ray"), "none": None}
    assert "another place" in found["problem"]
    assert found["sees"] == [True, False, True, False, False]
    storage.write("preflight/abc/asked", b"abc")
    assert probe.look(asked)["problem"] is None
    assert len(storage.names("preflight/abc")) == 2  # it can write, too
    storage.write("preflight/abc/asked", b"other")
    assert probe.look(asked)["problem"] == "another content lies there than was written"
    assert "nosuch" in probe.look(asked | {"uri": "nosuch://x"})["problem"]
