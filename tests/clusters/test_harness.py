"""The clusters on which others test: jobs run there, and faults happen and are mended."""

import ast
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.clusters.hosts import CAN_ISOLATE, MARK, hosts
from tests.contract.imports import ROOT
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

WHERE = """
import os
import ray

@ray.remote
def where():
    return ray.util.get_node_ip_address(), os.environ["CONVOY_CACHE"], os.uname().nodename

ray.init(log_to_driver=False)
nodes = [n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"] and "CPU" in n["Resources"]]
there = [where.options(resources={f"node:{node}": 0.01}).remote() for node in sorted(nodes)]
print("seen", ray.get(there))
"""
LONG = "python -u -c \"import signal; print('on'); signal.pause()\""


def ends(client, job):
    wait_until(lambda: client.get_job_status(job).is_terminal())
    return client.get_job_info(job)


def runs(client, job):
    wait_until(lambda: client.get_job_logs(job).endswith("on\n"))


def seen(client, tmp_path):
    """Run a job on all nodes; return (address, cache, hostname) of each."""
    (tmp_path / "where.py").write_text(WHERE)
    job = client.submit_job(
        entrypoint="python where.py", runtime_env={"working_dir": str(tmp_path)}
    )
    info = ends(client, job)
    logs = client.get_job_logs(job)
    assert info.status == "SUCCEEDED", logs
    return ast.literal_eval(logs.strip().splitlines()[-1].removeprefix("seen "))


def test_a_job_runs_on_all_nodes(cluster, tmp_path):
    found = seen(cluster.client(), tmp_path)
    assert [address for address, _, _ in found] == [host.address for host in cluster.hosts]
    assert len({cache for _, cache, _ in found}) == 2
    if cluster.isolated:
        assert [name for _, _, name in found] == [host.name for host in cluster.hosts]
    sizes = cluster.memory()
    assert {row[0] for row in sizes} == {host.address for host in (cluster.head, *cluster.hosts)}
    assert sum(row[3] for row in sizes) > 500e6


@pytest.mark.parametrize("headers", [None, {"Authorization": "Bearer another"}])
def test_without_the_token_nothing_is_answered(cluster, headers):
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    with pytest.raises(AuthenticationError):
        JobSubmissionClient(cluster.address, headers=headers)


def test_a_killed_driver_fails_its_job(cluster):
    client = cluster.client()
    job = client.submit_job(entrypoint=LONG)
    runs(client, job)
    cluster.kill_job_driver(job)
    info = ends(client, job)
    assert (info.status, info.driver_exit_code) == ("FAILED", -signal.SIGKILL)
    job = client.submit_job(entrypoint=LONG)
    runs(client, job)
    assert cluster.kill_worker("JobSupervisor") == cluster.head.address
    info = ends(client, job)
    assert (info.status, info.error_type) == ("FAILED", "JOB_SUPERVISOR_ACTOR_DIED")


def test_a_killed_node_is_noticed_and_comes_back(cluster):
    cluster.kill_node(0)
    wait_until(lambda: cluster.hosts[0].address not in cluster.alive())
    assert cluster.hosts[0].processes() == []
    cluster.restart_node(0)
    cluster.wait_for_nodes()


@pytest.mark.skipif(not CAN_ISOLATE, reason="needs root and `ip` for networks of their own")
def test_a_node_that_is_cut_off_is_held_for_dead_and_comes_back(cluster):
    process = cluster.hosts[1].processes()[0]
    cluster.cut_off(1)
    wait_until(lambda: cluster.hosts[1].address not in cluster.alive())
    assert process.is_running()
    cluster.join(1)
    cluster.wait_for_nodes()


def test_a_killed_head_comes_back_without_its_jobs(cluster, tmp_path):
    job = cluster.client().submit_job(entrypoint=LONG)
    runs(cluster.client(), job)
    cluster.kill_head()
    cluster.restart_head()
    cluster.wait_for_head()
    with pytest.raises(RuntimeError, match="does not exist"):
        cluster.client().get_job_status(job)
    cluster.wait_for_nodes()
    assert len(seen(cluster.client(), tmp_path)) == 2


def test_the_s3_server_keeps_its_data(s3, monkeypatch):
    for name, text in s3.variables.items():
        monkeypatch.setenv(name, text)
    import s3fs

    files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    content = os.urandom(6_000_000)
    files.pipe_file("bucket/some/key", content, chunksize=5 * 2**20)
    s3.kill()
    s3.restart()
    assert files.cat_file("bucket/some/key") == content
    assert files.cat_file("bucket/some/key", start=7, end=9) == content[7:9]
    assert files.find("bucket") == ["bucket/some/key"]
    other = s3fs.S3FileSystem(key="another", secret="another", skip_instance_cache=True)
    with pytest.raises(PermissionError):
        other.ls("bucket")


@pytest.mark.parametrize("isolated", [True, False])
def test_what_a_killed_session_left_is_removed(isolated):
    if isolated and not CAN_ISOLATE:
        pytest.skip("needs root and `ip` for networks of their own")
    script = "import sys; from tests.clusters.hosts import hosts\n"
    script += f"with hosts(1, isolated={isolated}) as (host,):\n"
    script += "    print(host.run(['sleep', '1000']).pid, flush=True); sys.stdin.read()"
    session = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    left = psutil.Process(int(session.stdout.readline()))
    session.kill()
    session.communicate()
    assert left.is_running()
    with hosts(1, isolated=isolated) as (host,):
        wait_until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)
        assert host.processes() == []


@pytest.mark.skipif(not CAN_ISOLATE, reason="needs root and `ip` for networks of their own")
def test_a_process_that_has_not_entered_its_network_yet_belongs_to_its_host():
    with hosts(1) as (host,):
        starting = subprocess.Popen(["sleep", "1000"], env=os.environ | {MARK: host.name})
        assert [process.pid for process in host.processes()] == [starting.pid]
        host.kill()
        assert starting.wait() == -signal.SIGKILL
