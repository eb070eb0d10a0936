"""Jobs that run already, and results and inputs that the storage has lost."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs.spec import (
    JobSpec,
    begin_attempt,
    latest_attempt,
    save_failure,
)
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import Tree
from tests.job_server import ended


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
