"""What a job's sender and its driver keep of it in the shared storage."""

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs.spec import (
    JobSpec,
    begin_attempt,
    latest_attempt,
    load_failure,
    save_result,
)


def test_a_sender_that_is_late_makes_no_former_attempt_count_again(job, storage):
    identity = job().spec.identity
    assert latest_attempt(storage, identity) == 0
    for attempt in (1, 2, 10, 1, 9):
        begin_attempt(storage, identity, attempt)
    assert latest_attempt(storage, identity) == 10


def test_results_can_be_saved_again(storage, written):
    tree = written({"data/split.parquet": b"s"})
    save_result(storage, "abc", tree)
    save_result(storage, "abc", tree)
    assert storage.names("jobs/abc") == ["jobs/abc/result.json"]


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
