"""The lock of `convoy retrain` in a bucket."""

import os
import subprocess
import sys

import pytest

from pipeline.runtime.storage.lease import LeaseTakenError, held_lease, holder
from pipeline.runtime.storage.shared import Storage
from tests.clusters.s3 import S3

FOLDER = "retraining/model/lock"
CODE = f"""
import sys, time
from pipeline.runtime.storage.lease import LeaseTakenError, held_lease
from pipeline.runtime.storage.shared import Storage
storage = Storage("s3://bucket/convoy")
storage.names("x")  # connects, which takes longer than all else
print("ready", flush=True)
sys.stdin.readline()
try:
    with held_lease(storage, {FOLDER!r}):
        print("held", flush=True)
        sys.stdin.readline()
except LeaseTakenError as error:
    print(f"left: {{error}}", flush=True)
"""


@pytest.fixture
def storage(tmp_path, monkeypatch):
    with S3(tmp_path) as s3:
        for name, value in s3.variables.items():
            monkeypatch.setenv(name, value)
        yield Storage("s3://bucket/convoy")


def start():
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ.copy(),
    )


def test_of_several_at_once_one_holds_it_and_a_killed_one_is_followed(storage):
    processes = [start() for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
    said = [process.stdout.readline() for process in processes]
    assert sorted(line.partition(":")[0].strip() for line in said) == ["held", *["left"] * 3], said
    assert holder(storage, FOLDER).pid == processes[said.index("held\n")].pid
    with pytest.raises(LeaseTakenError), held_lease(storage, FOLDER):
        pass
    for process in processes:
        process.kill()
        process.communicate()
    with held_lease(storage, FOLDER):
        assert len(storage.names(FOLDER)) == 1
    assert storage.names(FOLDER) == []
