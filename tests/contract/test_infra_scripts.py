"""The scripts of infra/ for Slurm and Kubernetes run, with stand-ins for the programs they call."""

import os
import shutil
import subprocess

import pytest

from tests.contract.imports import ROOT

INFRA = ROOT / "infra"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Return a function that puts a program in the way; each call writes its line to `calls`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def put(name, body):
        path = tmp_path / "bin" / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"$CALLS"\n{body}\n')
        path.chmod(0o755)

    return put


@pytest.fixture
def allocation(tmp_path, monkeypatch):
    """An allocation of three nodes with 4 GPUs and 32 cores each, and an empty repository."""
    given = {"SUBMIT_DIR": tmp_path, "JOB_NODELIST": "n[1-3]", "JOB_NUM_NODES": 3}
    given |= {"JOB_ID": 123456, "GPUS_ON_NODE": 4, "CPUS_ON_NODE": 32}
    for name, value in given.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    return tmp_path


def test_torchrun_trains_what_is_out_of_date_and_dvc_does_the_rest(stubs, allocation):
    stubs("scontrol", "printf 'n1\\nn2\\nn3\\n'")
    stubs("srun", 'echo "threads $OMP_NUM_THREADS" >>"$CALLS"')
    stubs("dvc", '[ "$1 $3" != "status train" ]')  # train is out of date, finetune is not
    done = run("bash", INFRA / "slurm" / "torchrun.sbatch")
    assert done.returncode == 0, done.stderr
    assert (allocation / "calls").read_text().splitlines() == [
        "scontrol show hostnames n[1-3]",
        "dvc repro start",
        "dvc status --quiet train",
        "srun --kill-on-bad-exit=1 torchrun --nnodes=3 --nproc-per-node=4 --rdzv-backend=c10d"
        " --rdzv-endpoint=n1:23456 --rdzv-id=123456-train -m pipeline train",
        "threads 8",
        "dvc commit --force train",
        "dvc status --quiet finetune",
        "dvc repro",
    ]


SRUN = """
stat -c %a "$(dirname "$RAY_AUTH_TOKEN_PATH")" >>"$CALLS"
wc -c <"$RAY_AUTH_TOKEN_PATH" >>"$CALLS"
while [ "$1" != -- ]; do shift; done; shift
"""


def test_ray_in_an_allocation_runs_the_workflow_with_a_token_of_its_own(stubs, allocation):
    stubs("hostname", "echo 10.0.0.1 fe80::1")
    stubs("srun", f'{SRUN}"$@"')
    stubs("dvc", 'echo "$RAY_ADDRESS $RAY_AUTH_MODE" >>"$CALLS"; exit 3')
    done = run("bash", INFRA / "slurm" / "ray.sbatch", "train", "finetune")
    assert done.returncode == 3  # that of the workflow
    calls = (allocation / "calls").read_text().splitlines()
    assert calls[1].startswith(
        "srun --kill-on-bad-exit=1 ray symmetric-run --address 10.0.0.1:23456 --min-nodes 3"
        " --num-cpus 32 --num-gpus 4 -- env RAY_ADDRESS=http://127.0.0.1:8265 "
    )
    assert calls[2:] == [
        "700",
        "65",
        "dvc repro train finetune",
        "http://127.0.0.1:8265 token",
    ]
    assert not list(allocation.glob(".slurm-*"))


def test_ray_that_does_not_start_in_an_allocation_is_an_error(stubs, allocation):
    """`ray symmetric-run` returns 0 then, and runs nothing."""
    stubs("hostname", "echo 10.0.0.1")
    stubs("srun", "exit 0")
    done = run("bash", INFRA / "slurm" / "ray.sbatch")
    assert done.returncode == 1
    assert "Ray did not start on all 3 nodes" in done.stderr


def test_a_kubernetes_job_goes_on_in_its_folder(stubs, tmp_path):
    stubs("dvc", "")
    project, folder = tmp_path / "opt" / "convoy", tmp_path / "storage" / "jobs" / "digits"
    script = project / "infra" / "k8s" / "repro.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(INFRA / "k8s" / "repro.sh", script)
    cut_off = folder.with_name("digits.new")  # by a kill while it was copied
    cut_off.mkdir(parents=True)
    (cut_off / "half").touch()
    for _ in range(2):
        done = run("bash", script, folder)
        assert done.returncode == 0, done.stderr
        (folder / "result").touch()
    assert {path.name for path in folder.iterdir()} == {"infra", "result"}
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]
    assert run("bash", script, folder, "dvc", "status").returncode == 0  # another command
    calls = (tmp_path / "calls").read_text().splitlines()
    configured = "dvc config --local core.no_scm true"
    assert calls == [configured, "dvc repro", configured, "dvc repro", configured, "dvc status"]
