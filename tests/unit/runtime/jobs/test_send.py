import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.jobs import package, send
from pipeline.runtime.jobs.send import SentJob, send_stage
from pipeline.runtime.jobs.spec import (
    JobSpec,
    begin_attempt,
    latest_attempt,
    load_failure,
    save_failure,
    save_result,
)
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import Tree
from pipeline.runtime.training import champion
from pipeline.runtime.training.champion import Champion
from pipeline.runtime.training.champion import find_champion as job_champion
from tests.job_server import ended

OUTS = ("data/split.parquet",)


@pytest.fixture
def job(params, server):
    def make(params=params, about=None, carried=("data/index.parquet",)):
        return SentJob(params, "split", carried, OUTS, about=about)

    return make


@pytest.fixture
def succeeds(written):
    """Makes fates of jobs that end well, or so that it looks otherwise."""

    def fate(sent, status="SUCCEEDED", exit_code=0):
        def end(name):
            written({"data/split.parquet": b"split"}, sent.spec.identity)
            return ended(name, status, exit_code)

        return end

    return fate


def test_a_job_is_submitted_with_its_inputs_and_followed_to_its_result(
    job, server, storage, capsys, succeeds
):
    sent = job()
    identity = sent.spec.identity
    server.log = "split: 1\nconvoy: hidden\nsplit: 2\n"
    server.fates = [succeeds(sent)]
    result = sent.run()
    sent.fetch(result)
    assert Path("data/split.parquet").read_bytes() == b"split"
    (submitted,) = server.submitted
    assert submitted["id"] == f"convoy-split-{identity[:12]}-1"
    assert submitted["entrypoint"] == "python -m pipeline job"
    assert submitted["metadata"] == {"stage": "split", "identity": identity, "storage": storage.uri}
    context = json.loads(submitted["environment"]["CONVOY_JOB"])
    assert (context["identity"], context["attempt"]) == (identity, 1)
    assert {"params.yaml", "dvc.yaml", "pipeline/__main__.py"} <= submitted["files"]
    assert not [name for name in submitted["files"] if name.startswith("data/")]
    spec = JobSpec.load(storage, identity)
    assert spec == JobSpec(identity, "split", sent._tree.digest, OUTS)
    assert capsys.readouterr().out.splitlines() == [
        f"split: runs as the job {sent.id(1)} at http://head:8265, 0.0 MiB uploaded",
        "split: 1",
        "split: 2",
    ]


def test_the_result_of_one_that_has_ended_is_taken(job, server, written, capsys):
    written({"data/split.parquet": b"split"}, job().spec.identity)
    job().fetch(job().run())
    assert Path("data/split.parquet").read_bytes() == b"split"
    assert server.submitted == []
    assert capsys.readouterr().out == (
        f"split: taken from the job {job().spec.identity[:12]}, which has ended\n"
    )


def test_identity_is_of_code_params_data_and_versions(job, monkeypatch):
    found = {job().spec.identity, job().spec.identity}
    assert len(found) == 1
    found.add(job(about=[{"split": 1}]).spec.identity)
    Path("data/index.parquet").write_bytes(b"Index")
    found.add(job().spec.identity)
    Path("data/more").write_bytes(b"more")
    found.add(job(carried=("data/index.parquet", "data/more")).spec.identity)
    Path("infra/lock/arrays.txt").write_text("numpy==1.0")
    found.add(job().spec.identity)
    monkeypatch.setattr(send, "code_digest", lambda: "other code")
    found.add(job().spec.identity)
    assert len(found) == 6


def test_resources_are_no_part_of_it(job, params):
    other = params.resources.model_copy(update={"max_failures": 9, "workers": 4})
    assert job(params.model_copy(update={"resources": other})).spec == job().spec


def test_one_that_runs_is_joined_and_nothing_is_uploaded(job, server, storage, capsys, succeeds):
    assert job().join_or_submit() == 1
    capsys.readouterr()
    second = job()
    server.fates = [succeeds(second)]
    Path(storage.uri, "trees").rename(Path(storage.uri, "gone"))  # nobody looks
    second.run()
    assert len(server.submitted) == 1
    assert capsys.readouterr().out == (
        f"split: joins the job {second.id(1)} at http://head:8265, 0 bytes to upload\n"
    )
    assert not Path(storage.uri, "trees").exists()


def test_of_two_senders_at_once_one_submits_and_the_other_joins(job, server, storage, monkeypatch):
    other = job()
    save = JobSpec.save

    def save_late(self, storage):
        monkeypatch.setattr(JobSpec, "save", save)
        assert other.join_or_submit() == 1  # in the midst of the first one's submission
        save(self, storage)

    monkeypatch.setattr(JobSpec, "save", save_late)
    assert job().join_or_submit() == 1
    assert [submitted["id"] for submitted in server.submitted] == [other.id(1)]


def test_a_sender_that_is_late_makes_no_former_attempt_count_again(job, storage):
    identity = job().spec.identity
    assert latest_attempt(storage, identity) == 0
    for attempt in (1, 2, 10, 1, 9):
        begin_attempt(storage, identity, attempt)
    assert latest_attempt(storage, identity) == 10


def test_after_a_killed_driver_another_attempt_goes_on(job, server, capsys, succeeds):
    sent = job()
    server.fates = [
        lambda name: ended(name, "FAILED", -9, "Job driver died"),
        succeeds(sent),
    ]
    sent.run()
    assert [submitted["id"] for submitted in server.submitted] == [sent.id(1), sent.id(2)]
    attempts = [json.loads(s["environment"]["CONVOY_JOB"])["attempt"] for s in server.submitted]
    assert attempts == [1, 2]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "split: attempt 1 of the job has failed: its driver was killed by signal 9",
        f"split: runs as the job {sent.id(2)} at http://head:8265, 0 bytes to upload",
    ]


def test_attempts_of_a_storage_that_was_emptied_are_passed_over(job, server, storage, succeeds):
    sent = job()
    for attempt in (1, 2):  # the job server remembers them, the storage does not
        server.states[sent.id(attempt)] = ended(sent.id(attempt), "SUCCEEDED", 0)
    server.fates = [succeeds(sent)]
    sent.run()
    assert [submitted["id"] for submitted in server.submitted] == [sent.id(3)]
    assert latest_attempt(storage, sent.spec.identity) == 3
    # One of them that still runs is joined.
    Path(storage.uri, "jobs").rename(Path(storage.uri, "gone"))
    server.states[sent.id(3)] = ended(sent.id(3), "RUNNING")
    assert job().join_or_submit() == 3


def test_but_not_for_ever(job, server):
    sent = job()
    message = (
        "Job entrypoint command failed with exit code 75, last logs:\na\nconvoy: x is damaged\n"
    )
    server.fates = [lambda name: ended(name, "FAILED", 75, message)] * 2
    with pytest.raises(
        PipelineError,
        match=rf"the job {sent.id(2)} failed 2 times, at last since x is damaged; convoy jobs"
        rf" --follow {sent.id(2)} shows its log; mend the cause, and the same command runs it",
    ):
        sent.run()


def test_a_driver_that_died_after_it_was_done_is_no_failure(job, server, succeeds):
    sent = job()
    server.fates = [succeeds(sent, "FAILED", -9)]
    assert [file.path for file in sent.run().files] == ["data/split.parquet"]
    assert len(server.submitted) == 1


def test_a_server_that_was_restarted_knows_the_job_no_more(job, server, capsys, succeeds):
    sent = job()
    server.fates = [
        lambda _: None,
        succeeds(sent),
    ]
    sent.run()
    assert "attempt 1 of the job has failed: its cluster was restarted" in capsys.readouterr().out


def test_a_mistake_of_the_stage_is_said_once_and_its_outs_are_fetched(
    job, server, storage, written, capsys, succeeds
):
    sent = job()
    server.log = "split: x\nconvoy: split.val is 2\n"

    def fail(name):
        tree = written({"data/split.parquet": b"half"})
        save_failure(storage, sent.spec.identity, 1, "split.val is 2", tree)
        return ended(name, "FAILED", 2, "Job entrypoint command failed with exit code 2")

    server.fates = [fail]
    with pytest.raises(PipelineError, match=r"^split\.val is 2$"):
        sent.run()
    assert Path("data/split.parquet").read_bytes() == b"half"
    said = capsys.readouterr()
    assert "split.val" not in said.out + said.err
    assert len(server.submitted) == 1
    # Later, the same command tries again.
    server.fates = [succeeds(sent)]
    job().run()
    assert server.submitted[-1]["id"] == sent.id(2)


def test_lost_outs_of_a_failed_job_do_not_hide_why_it_failed(job, server, storage, written, capsys):
    sent = job()

    def fail(name):
        tree = written({"data/split.parquet": b"half"})
        save_failure(storage, sent.spec.identity, 1, "split.val is 2", tree)
        storage.forget(tree.files[0])
        return ended(name, "FAILED", 2)

    server.fates = [fail]
    with pytest.raises(PipelineError, match=r"^split\.val is 2$"):
        sent.run()
    assert "data/split.parquet is missing or damaged in the storage" in capsys.readouterr().out


def test_a_job_that_was_stopped(job, server):
    sent = job()
    server.fates = [lambda name: ended(name, "STOPPED", 143)]
    with pytest.raises(
        PipelineError, match=rf"the job {sent.id(1)} was stopped; the same command runs it again"
    ):
        sent.run()
    # The same command begins the next attempt.
    assert job().join_or_submit() == 2


def test_one_that_another_sender_replaced_is_followed_there(job, server, storage, written):
    sent = job()

    def replaced(name):
        save_failure(storage, sent.spec.identity, 1, "another group has taken over", Tree(()))
        begin_attempt(storage, sent.spec.identity, 2)
        server.states[sent.id(2)] = ended(sent.id(2), "RUNNING")
        return ended(name, "FAILED", 2)

    def done(name):
        assert name == sent.id(2)
        written({"data/split.parquet": b"s"}, sent.spec.identity)
        return ended(name, "SUCCEEDED", 0)

    server.fates = [replaced, done]
    assert [file.path for file in sent.run().files] == ["data/split.parquet"]
    assert len(server.submitted) == 1


def test_a_result_of_which_a_part_is_lost_is_made_again(
    job, server, storage, written, capsys, succeeds
):
    sent = job()
    tree = written({"data/split.parquet": b"split"}, sent.spec.identity)
    storage.forget(tree.files[0])
    server.fates = [succeeds(sent)]
    assert sent.run() == tree
    said = capsys.readouterr().out.splitlines()[0]
    assert said == f"split: {storage.uri} has lost data/split.parquet; it is made again"


def test_an_input_that_the_storage_has_lost_is_uploaded_again(job, server, storage):
    sent = job()
    server.fates = [lambda name: ended(name, "FAILED", 75)] * 2
    put, sizes = Storage.put, []

    def count(self, *args):
        sizes.append(put(self, *args))
        for file in sent._tree.files:  # as a node does that finds it damaged
            storage.forget(file)
        return sizes[-1]

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(PipelineError, match="failed 2 times"),
    ):
        patch.setattr(Storage, "put", count)
        sent.run()
    assert sizes == [5, 5]


@pytest.mark.parametrize("begun", [0, 1])
def test_a_job_server_that_does_not_answer_is_found_by_the_checks(
    job, server, storage, monkeypatch, begun
):
    """They also say what else is wrong."""

    def check(*args, **options):
        raise PipelineError("2 checks failed")

    def away(name):
        raise PipelineError("no answer")

    sent = job()
    if begun:
        begin_attempt(storage, sent.spec.identity, begun)
    monkeypatch.setattr(send, "check_cluster", check)
    monkeypatch.setattr(server, "state", away)
    with pytest.raises(PipelineError, match="2 checks failed"):
        sent.run()


def test_a_storage_that_does_not_answer_is_found_by_the_checks(job, server, monkeypatch):
    """Within seconds, and with all else that the cluster lacks."""
    patience, checks = [], []

    def away(self, name):
        patience.append(self._remote.patience_s)
        raise AwayError("away")

    def check(*args, **options):
        checks.append(options)
        raise PipelineError("2 checks failed")

    monkeypatch.setattr(Storage, "read", away)
    monkeypatch.setattr(send, "check_cluster", check)
    with pytest.raises(PipelineError, match="2 checks failed"):
        job().run()
    assert max(patience) <= 5
    assert checks == [{"afresh": True}]


def test_nothing_is_uploaded_where_a_check_fails(job, server, storage, monkeypatch):
    def fail(*args, **options):
        raise PipelineError("1 check failed")

    monkeypatch.setattr(send, "check_cluster", fail)
    with pytest.raises(PipelineError, match="1 check failed"):
        job().run()
    assert storage.names("") == []
    assert server.submitted == []


def test_a_damaged_failure_is_one_line(storage):
    storage.write("jobs/abc/failure-0001.json", b'{"message": "x"')
    with pytest.raises(PipelineError, match=r"jobs/abc/failure-0001\.json in .* is damaged"):
        load_failure(storage, "abc", 1)
    assert load_failure(storage, "abc", 2) is None


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"identity": "x"}', b'{"outs": [], "targets": []}']
)
def test_a_damaged_job_is_one_line(storage, content):
    with pytest.raises(PipelineError, match=r"storage .* holds no job abc"):
        JobSpec.load(storage, "abc")
    storage.write("jobs/abc/job.json", content)
    with pytest.raises(PipelineError, match=r"jobs/abc/job\.json in .* is damaged"):
        JobSpec.load(storage, "abc")


def test_a_result_that_leads_out_of_the_workspace_is_refused(job, storage, server):
    sent = job()
    storage.write(f"jobs/{sent.spec.identity}/result.json", b'[["../x", "%s", 1]]' % (b"0" * 64))
    with pytest.raises(PipelineError, match=r"result\.json in .* names '\.\./x', which leads out"):
        sent.run()


def test_a_stage_is_sent_with_the_files_of_dvc_yaml(params, server, written, monkeypatch):
    made = []
    monkeypatch.setattr(
        send.SentJob, "run", lambda self: made.append(self) or written({"data/split.parquet": b"s"})
    )
    Path("data/unused").write_bytes(b"x")
    send_stage(params, "split")
    assert [file.path for file in made[0]._tree.files] == ["data/index.parquet"]
    assert Path("data/split.parquet").read_bytes() == b"s"
    Path("data/split.parquet").unlink()  # with it, the stage would be another job: it reads it
    # A section that the stage does not read changes nothing.
    other = params.model_copy(
        update={"train": params.train.model_copy(update={"epochs": 99}), "model": params.model}
    )
    send_stage(other, "split")
    assert made[1].spec == made[0].spec
    Path("data/split.parquet").unlink()
    other = params.model_copy(update={"split": params.split.model_copy(update={"seed": 99})})
    send_stage(other, "split")
    assert made[2].spec != made[0].spec


def test_results_can_be_saved_again(storage, written):
    tree = written({"data/split.parquet": b"s"})
    save_result(storage, "abc", tree)
    save_result(storage, "abc", tree)
    assert storage.names("jobs/abc") == ["jobs/abc/result.json"]


def test_package_digest_is_that_of_the_package():
    assert send.code_digest() == package.code_digest()


def test_the_champion_of_the_sender_travels_where_a_start_is_to_be_chosen(
    params, server, monkeypatch, tmp_path
):
    folder, asked = Path(".convoy/champions/digest"), []
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    found = Champion(folder, "digest", "digits", "3", {"split.seed": "0"})
    monkeypatch.setattr(champion, "find_champion", lambda _: asked.append(1) or found)

    def sent(stage, mode):
        start = params.start.model_copy(update={"mode": mode})
        return SentJob(params.model_copy(update={"start": start}), stage, [], OUTS, about=None)

    for stage in ("start", "repro"):
        assert not asked
        cold, auto = sent(stage, "cold"), sent(stage, "auto")
        assert asked.pop()
        assert [file.path for file in auto._tree.files] == [f"{folder}/model.safetensors"]
        assert auto.spec.identity != cold.spec.identity
        # What the job then finds is what its sender has found.
        for name, value in auto._context(1).environment().items():
            monkeypatch.setenv(name, value)
        assert job_champion(params) == found
        monkeypatch.setenv("CONVOY_JOB", cold._context(1).environment()["CONVOY_JOB"])
        assert job_champion(params) is None
        monkeypatch.delenv("CONVOY_JOB")
    sent("train", "auto")
    assert not asked
