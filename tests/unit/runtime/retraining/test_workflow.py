import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.retraining.data_update import update_images
from pipeline.runtime.retraining.dvc_files import DvcFiles
from pipeline.runtime.retraining.publish import check_can_publish, commit_results, push_outputs
from pipeline.runtime.retraining.workflow import CALL, Workflow, end_processes
from tests.waiting import wait_until

COPY, SEEN = Path("kept/copy.lock"), Path("kept/images.dvc")


@pytest.fixture
def workflow():
    return Workflow("call-1", lambda: None, COPY)


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(monkeypatch):
    """A repository with DVC in the current folder."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    git("init", "-q")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    Path("dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: cp in.txt out.txt && date > kept.json && cp in.txt ignored.txt\n"
        "    deps: [in.txt]\n    outs:\n    - out.txt\n    - kept.json: {cache: false}\n"
        "    - ignored.txt: {cache: false}\n"
    )
    Path("in.txt").write_text("1\n")
    Path(".gitignore").write_text("/out.txt\n/ignored.txt\n")
    git("add", "-A")
    git("commit", "-qm", "first")


def test_repro_runs_and_finds_the_command_beside_python(project, workflow, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    Path("dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: dvc --version > v.txt\n    outs: [v.txt]\n"
    )
    workflow.repro()
    assert Path("v.txt").read_text().startswith("3.")


def test_a_failure_of_ours_is_quoted_and_of_others_is_pointed_at(project, workflow):
    ours = 'printf "x: y" > "$CONVOY_MISTAKE" && false'
    for command, message in ((ours, "dvc repro failed: x: y$"), ("false", "its output says why")):
        Path("dvc.yaml").write_text(f"stages:\n  one:\n    cmd: '{command}'\n    outs: [v.txt]\n")
        with pytest.raises(PipelineError, match=message):
            workflow.repro()


def test_a_call_that_must_not_go_on_ends_what_it_has_started(project):
    Path("dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo $$ > pid && sleep 600\n    outs: [v.txt]\n"
    )

    def check():
        if Path("pid").exists() and Path("pid").read_text().strip():
            raise PipelineError("lost")

    with pytest.raises(PipelineError, match="lost"):
        Workflow("call-2", check, COPY).repro()
    pid = int(Path("pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_lock_file_that_dvc_left_cut_off_is_what_it_was_before(project, workflow, capsys):
    workflow.repro()
    whole = Path("dvc.lock").read_bytes()
    assert COPY.read_bytes() == whole
    refused = 0
    for size in range(0, len(whole), 7):
        Path("dvc.lock").write_bytes(whole[:size])
        Path(".dvc/tmp/rwlock").write_bytes(b"")
        if DvcFiles(COPY).mend():
            refused += 1
            assert Path("dvc.lock").read_bytes() == whole
        else:  # whole so far: DVC accepts it, and makes again what is missing
            COPY.write_bytes(whole)
        assert not Path(".dvc/tmp/rwlock").exists()
    assert refused > 10
    Path("dvc.lock").write_bytes(whole[: whole.index(b"path:") + 5])
    Path(".dvc/tmp/rwlock").write_bytes(b"{")
    command = [sys.executable, "-m", "dvc", "repro"]
    assert subprocess.run(command, capture_output=True, check=False).returncode  # without us
    workflow.repro()
    assert "dvc.lock was cut off when DVC was killed" in capsys.readouterr().out
    assert Path("dvc.lock").read_bytes() == whole


def test_a_lock_file_that_was_cut_off_before_the_first_call_is_said(project, workflow):
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  one:\n    cmd:\n")
    with pytest.raises(PipelineError, match=r"restore it, as by git checkout dvc\.lock"):
        workflow.repro()


def test_what_a_killed_call_left_is_ended_and_nothing_else(project):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.runtime.retraining.workflow import Workflow\n"
        "Workflow(sys.argv[1], lambda: None, Path('copy.lock')).repro()\n"
    )
    Path("dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo $$ > pid.tmp && mv pid.tmp pid && sleep 600\n"
        "    outs: [v.txt]\n"
    )
    other = subprocess.Popen(["sleep", "600"], env=os.environ | {CALL: "another"})
    process = subprocess.Popen([sys.executable, "-c", code, "call-3"])
    wait_until(Path("pid").exists)
    process.kill()
    process.wait()
    pid = int(Path("pid").read_text())
    assert Path(f"/proc/{pid}").exists()
    try:
        assert end_processes("call-3") >= 2  # DVC, and its shell
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        assert end_processes("call-3") == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_commit_takes_the_lock_and_what_stages_keep_and_nothing_else(project, workflow):
    workflow.repro()
    Path("mine.txt").write_text("mine")
    Path("staged.txt").write_text("staged")
    git("add", "staged.txt")
    commit = commit_results(workflow, "images", "convoy retrain: promoted version 2")
    assert commit == git("rev-parse", "HEAD").strip()
    assert git("show", "--name-only", "--format=%s").split("\n\n") == [
        "convoy retrain: promoted version 2",
        "dvc.lock\nkept.json\n",
    ]
    assert git("status", "--porcelain", "--", "*.txt") == "A  staged.txt\n?? mine.txt\n"
    assert commit_results(workflow, "images", "again") is None


def test_what_cannot_be_published_is_found_before_the_training(project, workflow, monkeypatch):
    with pytest.raises(PipelineError, match=r"retrain\.push: DVC has no remote; add one"):
        check_can_publish(workflow, commit=False, push=True)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "")
    with pytest.raises(PipelineError, match=r"retrain\.commit: git cannot commit here"):
        check_can_publish(workflow, commit=True, push=False)
    check_can_publish(workflow, commit=False, push=False)


def test_params_that_are_not_committed_are_found_before_the_training(project, workflow):
    Path("params.yaml").write_text("a: 1\n")
    with pytest.raises(PipelineError, match=r"retrain\.commit: params\.yaml differ from"):
        check_can_publish(workflow, commit=True, push=False)
    git("add", "params.yaml")
    git("commit", "-qm", "params")
    check_can_publish(workflow, commit=True, push=False)
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "# more\n")
    with pytest.raises(PipelineError, match=r"retrain\.commit: dvc\.yaml differ"):
        check_can_publish(workflow, commit=True, push=False)


def test_outputs_are_pushed(project, workflow, tmp_path_factory):
    remote = tmp_path_factory.mktemp("remote")
    assert workflow.dvc("remote", "add", "-d", "r", str(remote))[0] == 0
    workflow.repro()
    push_outputs(workflow)
    assert [path.read_text() for path in remote.rglob("*") if path.is_file()] == ["1\n"]
    remote.rename(f"{remote}.away")
    remote.write_text("a file where a folder was")
    Path("in.txt").write_text("2\n")
    workflow.repro()
    with pytest.raises(PipelineError, match="dvc push failed"):
        push_outputs(workflow)


def test_imported_images_are_updated(project, workflow, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    (source / "a.txt").write_text("1")
    assert workflow.dvc("import-url", str(source), "images")[0] == 0
    (source / "b.txt").write_text("2")
    assert update_images("images", workflow, SEEN) == "dvc update images.dvc"
    assert sorted(path.name for path in Path("images").iterdir()) == ["a.txt", "b.txt"]
    for file in source.iterdir():
        file.unlink()
    source.rmdir()
    with pytest.raises(PipelineError, match=r"dvc update images\.dvc failed: ERROR"):
        update_images("images", workflow, SEEN)


def test_tracked_images_are_pulled_unless_they_were_changed_here(
    project, workflow, tmp_path_factory
):
    Path("images").mkdir()
    Path("images/a.txt").write_text("1")
    assert workflow.dvc("add", "images")[0] == 0
    assert update_images("images", workflow, SEEN) is None  # there is no remote
    workflow.dvc("remote", "add", "-d", "r", str(tmp_path_factory.mktemp("remote")))
    assert workflow.dvc("push")[0] == 0
    Path("images/a.txt").unlink()
    Path("images").rmdir()
    assert update_images("images", workflow, SEEN) == "dvc pull images.dvc"
    assert Path("images/a.txt").read_text() == "1"
    Path("images/b.txt").write_text("2")
    said = update_images("images", workflow, SEEN)
    assert said == "images differs from images.dvc, and is taken as it is"
    assert Path("images/b.txt").exists()


def test_images_that_others_have_added_are_pulled_and_no_change_of_anybody_is_lost(
    project, workflow, tmp_path_factory
):
    def track(*names):
        """Track these images, and push them, as somebody else would."""
        for file in Path("images").iterdir():
            file.unlink()
        for name in names:
            Path("images", name).write_text(name)
        for words in (("add", "images"), ("push",)):
            assert workflow.dvc(*words)[0] == 0
        git("add", "-A")
        git("commit", "-qm", " ".join(names))

    Path("images").mkdir()
    workflow.dvc("remote", "add", "-d", "r", str(tmp_path_factory.mktemp("remote")))
    track("a", "b")
    assert update_images("images", workflow, SEEN) == "dvc pull images.dvc"
    track("a", "b", "c")
    Path("images/c").unlink()  # the folder of before, as after git pull
    assert update_images("images", workflow, SEEN) == "dvc pull images.dvc"
    assert Path("images/c").read_text() == "c"

    Path("images/a").unlink()  # somebody takes a bad one away here
    said = update_images("images", workflow, SEEN)
    assert said == "images differs from images.dvc, and is taken as it is"
    assert not Path("images/a").exists()
    track("a", "b", "c", "d")
    for name in "ad":  # both at once
        Path("images", name).unlink()
    with pytest.raises(PipelineError, match=r"images and images\.dvc have both changed since"):
        update_images("images", workflow, SEEN)
    assert sorted(path.name for path in Path("images").iterdir()) == ["b", "c"]


def test_images_without_dvc_are_taken_as_they_are(workflow):
    for root in ("images", "images/", "s3://bucket/images"):
        assert update_images(root, workflow, SEEN) is None


def test_a_damaged_dvc_file_is_named(workflow):
    Path("images.dvc").write_text("[: ")
    with pytest.raises(PipelineError, match=r"images\.dvc is no file of DVC's"):
        update_images("images", workflow, SEEN)
