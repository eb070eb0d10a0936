"""Trainings on a real cluster of three hosts, each with a random fault, and one without.

    python -m tests.benchmarks.cluster_faults [--faults 30] [--seed 0]

Each training is a `convoy train` of two workers on two nodes, with an S3 server for a storage. At a
random moment a fault happens: a worker or a node is killed (kill -9), a node is cut off for 30 s,
the job's driver is killed, the head is killed and started again, or the storage is away for 20 s.
The bundle must have the same bytes as that of the undisturbed training, and no process of a job may
be left. Needs root and iproute2, to cut a node off. Prints a line for each fault, and how many were
equal.
"""

import argparse
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.clusters.ray_cluster import RayCluster
from tests.clusters.s3 import S3
from tests.projects import change, contents, convoy, make_project
from tests.waiting import wait_until

KINDS = ("worker", "node", "cut off", "driver", "head", "storage")
EPOCHS = 150
LATEST_S = 18.0  # after the workers have started; they train for somewhat longer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = RayCluster(folder)
        try:
            with S3(folder, cluster.outside) as s3:
                cluster.env |= s3.variables
                cluster.start()
                measure(folder, cluster, s3, draw, options.faults)
        finally:
            cluster.close()


def measure(folder, cluster, s3, draw, faults):
    (folder / "project").mkdir()
    project = make_project(folder / "project", EPOCHS)
    change(project, "resources", storage="s3://bucket/convoy", workers=2, cpus_per_worker=1)
    begin_s = time.monotonic()
    run_once(project, cluster, s3, lambda: None, 0.0)
    undisturbed = contents(project / "models" / "base")
    print(f"undisturbed: {time.monotonic() - begin_s:.0f} s", flush=True)
    equal = 0
    for number in range(faults):
        kind = KINDS[number % len(KINDS)]
        delay_s = draw.uniform(0.0, LATEST_S)
        forget(s3)
        begin_s = time.monotonic()
        said = run_once(project, cluster, s3, lambda kind=kind: happen(kind, cluster, s3), delay_s)
        spent_s = time.monotonic() - begin_s
        same = contents(project / "models" / "base") == undisturbed
        cluster.heal()
        wait_until(lambda: not cluster.of_jobs(), 60)
        equal += same
        attempts = len(re.findall(r"runs as the job", said))
        print(
            f"{number + 1:2} {kind:8} after {delay_s:4.1f} s: {spent_s:4.0f} s, {attempts}"
            f" attempts, {'equal' if same else 'DIFFERENT'}",
            flush=True,
        )
    print(f"{equal} of {faults} end in the undisturbed model; no process of a job is left")


def forget(s3):
    """Let the same job run again: without results and checkpoints."""
    storage = s3.data / "bucket" / "convoy"
    for name in ("jobs", "runs"):
        shutil.rmtree(storage / name, ignore_errors=True)


def run_once(project, cluster, s3, fault, delay_s):
    """Train; some seconds after both workers run the fault happens."""
    shutil.rmtree(project / "models" / "base", ignore_errors=True)
    log = project / "log"
    there = cluster.variables | s3.variables
    with log.open("w") as file:
        process = convoy(project, "train", env=there, stdout=file, stderr=subprocess.STDOUT)
    wait_until(lambda: len(cluster.workers("RayTrainWorker")) == 2 or process.poll() is not None)
    ends_s = time.monotonic() + delay_s
    wait_until(lambda: time.monotonic() > ends_s or process.poll() is not None)
    assert process.poll() is None, f"the training was over before the fault:\n{log.read_text()}"
    fault()
    assert process.wait(timeout=900) == 0, log.read_text()
    return log.read_text()


def happen(kind, cluster, s3):
    """Let a fault happen, and what it breaks come back."""
    match kind:
        case "worker":
            cluster.kill_worker("RayTrainWorker")
        case "node":
            cluster.kill_node(0)
            time.sleep(5)
            cluster.restart_node(0)
        case "cut off":
            cluster.cut_off(0)
            time.sleep(30)
            cluster.join(0)
        case "driver":
            cluster.kill_job_driver("convoy-train")
        case "head":
            cluster.kill_head()
            time.sleep(5)
            cluster.restart_head()
        case "storage":
            s3.kill()
            time.sleep(20)
            s3.start()


if __name__ == "__main__":
    main()
