import errno
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError, ParamValidationError

from pipeline import remote
from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.storage import shared
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import File


@pytest.fixture
def copied(monkeypatch):
    """The sizes of the files that were copied."""
    sizes, copy = [], shutil.copyfile
    monkeypatch.setattr(
        shared.shutil, "copyfile", lambda a, b: sizes.append(Path(a).stat().st_size) or copy(a, b)
    )
    return sizes


@pytest.mark.parametrize("listed", [0, 1000], ids=["by a listing", "one by one"])
def test_nothing_is_uploaded_twice(workspace, storage, tree, copied, monkeypatch, listed):
    monkeypatch.setattr(shared, "_LISTED", listed)
    assert storage.has(tree.files) == set()
    # 'first' is the content of two files.
    assert storage.put(tree.files, workspace, "upload") == 11 == sum(copied)
    assert storage.has(tree.files) == {file.sha256 for file in tree.files}
    assert storage.put(tree.files, workspace, "upload") == 0
    assert sum(copied) == 11
    # One of half the length is sent again.
    blob = Path(storage.uri, "blobs", tree.files[1].sha256[:2], tree.files[1].sha256)
    blob.write_bytes(b"sec")
    assert storage.has(tree.files) == {tree.files[0].sha256}
    assert storage.put(tree.files, workspace, "upload") == 6
    assert blob.read_bytes() == b"second"


@pytest.mark.parametrize("form", ["{}", "{}/", "{}//", "file://{}", "file://{}/"])
def test_forms_of_an_address(tmp_path, form):
    storage = Storage(form.format(tmp_path / "my storage ü"))
    storage.write("jobs/x/job.json", b"{}")
    assert (tmp_path / "my storage ü/jobs/x/job.json").read_bytes() == b"{}"
    assert storage.uri == str(tmp_path / "my storage ü")
    assert storage.names("jobs") == ["jobs/x/job.json"]
    assert storage.names("none") == []
    assert storage.read("jobs/x/job.json") == b"{}"
    assert storage.read("jobs/y/job.json") is None
    storage.remove("jobs/x")
    storage.remove("jobs/x")
    assert storage.names("jobs") == []


def test_what_is_being_written_is_in_no_list(storage):
    storage.write("runs/a/1", b"")
    Path(storage.uri, "runs/a/.2.0123abcd.tmp").write_bytes(b"half")
    assert storage.names("runs") == ["runs/a/1"]


def test_a_copy_that_fails_leaves_nothing(workspace, storage, monkeypatch):
    def fail(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    storage = Storage(storage.uri, patience_s=0)
    monkeypatch.setattr(shared.shutil, "copyfile", fail)
    with pytest.raises(AwayError, match=r"storage .* does not answer: .*No space left"):
        storage.put_file(workspace / "data/a.bin", "blobs/ab/abc")
    assert [path for path in Path(storage.uri).rglob("*") if path.is_file()] == []


class Failing:
    """A file system that fails some times and then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def cat_file(self, _path):
        if self.errors:
            raise self.errors.pop(0)
        return b"content"

    def info(self, path):
        return {"size": len(self.cat_file(path))}

    def pipe_file(self, path, _content):
        self.cat_file(path)


def behind(monkeypatch, *errors, uri="s3://bucket/convoy", patience_s=60.0):
    monkeypatch.setattr(remote, "_open", lambda _: (Failing(*errors), "bucket/convoy"))
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    return Storage(uri, patience_s)


def test_a_storage_that_is_away_is_asked_again(monkeypatch, capsys):
    monkeypatch.setattr(remote, "_SILENCE_S", -1.0)
    away = [ConnectionError("refused"), TimeoutError(), OSError("connection\nreset")]
    assert behind(monkeypatch, *away).read("x") == b"content"
    assert capsys.readouterr().err.splitlines() == [
        "storage s3://bucket/convoy does not answer (refused); tries again for 60 s"
    ]


def test_all_threads_that_wait_say_so_once(monkeypatch, capsys):
    monkeypatch.setattr(remote, "_SILENCE_S", -1.0)
    storage = behind(monkeypatch, *[ConnectionError("refused")] * 20)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(storage.read, "abcd")) == [b"content"] * 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_in_haste_patience_is_short(monkeypatch):
    storage = behind(monkeypatch, ConnectionError("refused"), ConnectionError("refused"))
    with pytest.raises(AwayError), remote.in_haste(0.0):
        storage.read("x")
    assert storage.read("x") == b"content"


def test_a_request_that_is_wrong_is_not_asked_again(monkeypatch):
    storage = behind(monkeypatch, OSError(errno.EINVAL, "Bad Request"))
    with pytest.raises(PipelineError, match=r"refuses: \[Errno 22\] Bad Request; check"):
        storage.read("x")


def test_and_patience_ends_in_one_line(monkeypatch):
    storage = behind(monkeypatch, ConnectionError("connection\nrefused"), patience_s=0.0)
    with pytest.raises(AwayError, match=r"storage s3://bucket/convoy does not answer: ") as e:
        storage.read("x")
    assert str(e.value) == (
        "storage s3://bucket/convoy does not answer: connection refused; see that it runs, and that"
        " resources.storage and the environment name it"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("AccessDenied"), "AccessDenied"),
        (NoCredentialsError(), "Unable to locate credentials"),
        (ParamValidationError(report="Invalid bucket name"), ".*Invalid bucket name"),
    ],
)
def test_what_no_other_try_would_mend_is_said_at_once(monkeypatch, error, said):
    storage = behind(monkeypatch, error)
    with pytest.raises(PipelineError, match=rf"s3://bucket/convoy refuses: {said}; check its"):
        storage.has([File("a", "0" * 64, 1)])


def test_a_bucket_that_does_not_exist_is_one_line(monkeypatch):
    storage = behind(monkeypatch, FileNotFoundError("The specified bucket does not exist"))
    with pytest.raises(
        PipelineError,
        match=r"s3://bucket/convoy cannot be written to: The specified bucket does not exist; make",
    ):
        storage.write("x", b"")


def test_an_address_that_nothing_opens_is_one_line():
    with pytest.raises(
        PipelineError, match=r"resources\.storage nosuch://x cannot be opened: .*or name a folder"
    ):
        Storage("nosuch://x")


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "s3:///folder", "gs://", "file://", "/", ""])
def test_an_address_without_a_bucket_is_one_line(uri):
    with pytest.raises(PipelineError, match=r"storage is .*, expected a bucket such as s3"):
        Storage(uri)
