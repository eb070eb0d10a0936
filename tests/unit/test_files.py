import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from pipeline.errors import PipelineError
from pipeline.files import atomic_path, fresh_folder, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "f.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.files import atomic_path, fresh_folder
target = Path(sys.argv[1])
with atomic_path(target / "f.txt") as file, fresh_folder(target / "d") as folder:
    file.write_text("half")
    (folder / "half").touch()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writes", flush=True)
    input()
"""


def start_writing(folder, how):
    command = [sys.executable, "-c", KILLED, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    with start_writing(tmp_path, "killed") as killed:
        assert killed.wait() == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with start_writing(tmp_path, "alive") as alive:
        assert alive.stdout.readline() == "writes\n"
        assert len(list(tmp_path.iterdir())) == 2  # its own: those of the killed one are gone
        (tmp_path / ".f.txt.of-mine").touch()
        with atomic_path(tmp_path / "f.txt") as file, fresh_folder(tmp_path / "d"):
            file.write_text("whole")
        alive.communicate("\n")
    assert alive.returncode == 0  # nobody took its files away
    assert {path.name for path in tmp_path.iterdir()} == {"f.txt", "d", ".f.txt.of-mine"}
    assert (tmp_path / "f.txt").read_text() == "half"  # the last to end
    assert list((tmp_path / "d").iterdir()) == [tmp_path / "d" / "half"]


WITHOUT_RIGHTS = """
import sys
from pathlib import Path
from pipeline.files import atomic_path, fresh_folder
from pipeline.data.shards.shards import ImageSet
def refused(act):
    try:
        act()
    except PermissionError as error:
        print(error.filename)
def replace_folder():
    with fresh_folder(Path("packed")) as folder:
        (folder / "new").touch()
def replace_file():
    with atomic_path(Path("reports/a.json")):
        pass
for act in (replace_folder, replace_file, lambda: ImageSet.open(Path("hidden"))):
    refused(act)
"""


@pytest.fixture
def without_rights():
    """Return what a command begins with to have no more rights than a user."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everything, and there is no setpriv to give that up")
    given_up = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={given_up}", f"--inh-caps={given_up}"]


def test_what_may_not_be_replaced_or_read_stays_whole_and_is_named(tmp_path, without_rights):
    (tmp_path / "packed" / "train").mkdir(parents=True)
    (tmp_path / "packed" / "train" / "shard").touch()
    for name, mode in {"packed": 0o555, "reports": 0o555, "hidden": 0o000}.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name).chmod(mode)
    command = [*without_rights, sys.executable, "-c", WITHOUT_RIGHTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["packed", "reports/a.json", "hidden"]
    assert {path.name for path in tmp_path.iterdir()} == {"packed", "reports", "hidden"}
    assert list((tmp_path / "packed").rglob("*")) == [
        tmp_path / "packed" / "train",
        tmp_path / "packed" / "train" / "shard",
    ]


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "new" / "f.json", {"ä": [1, None]})
    assert read_json(tmp_path / "new" / "f.json") == {"ä": [1, None]}


def test_nan_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "f.json", 1)
    assert (tmp_path / "f.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_and_damaged_json(tmp_path):
    with pytest.raises(PipelineError, match="is missing; run dvc repro"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(PipelineError, match=r"is damaged .*; delete it and run dvc repro"):
        read_json(tmp_path / "half.json")
