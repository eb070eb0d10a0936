"""Jobs that fail or are stopped, and clusters that lack something."""

import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.jobs import send
from pipeline.runtime.jobs.spec import begin_attempt, save_failure
from pipeline.runtime.storage.shared import Storage
from tests.job_server import ended


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
