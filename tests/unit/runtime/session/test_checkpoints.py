import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline import remote
from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.session import checkpoints
from pipeline.runtime.session.checkpoints import LocalCheckpoints, SharedCheckpoints
from pipeline.runtime.session.run_files import LOCAL
from pipeline.runtime.storage.shared import Storage
from pipeline.vision.training.checkpoint import read_tensors, read_values, write_checkpoint


class Trainer:
    """Saves next to nothing."""

    def __init__(self, epochs, steps=0, mark=0.0):
        self.state, self.mark = SimpleNamespace(epochs_done=epochs, steps_done=steps), mark

    def save(self, folder):
        weights = {"w": torch.full((3,), self.mark)}
        write_checkpoint(folder, {"network": weights}, weights, {"epochs": self.state.epochs_done})


@pytest.fixture
def kept(tmp_path):
    return SharedCheckpoints(str(tmp_path / "storage"), "train-1", tmp_path / "node")


@pytest.fixture
def stored(tmp_path):
    """Names what lies in the storage: generations by their numbers, and checkpoints."""

    def names():
        found = Storage(str(tmp_path / "storage")).names("runs/train-1")
        parts = [name.split("/")[2:] for name in found]
        return sorted({f"{int(p[0][:6])}/{p[1]}" for p in parts if len(p) > 2})

    return names


def elsewhere(kept, name):
    """Return the same checkpoints as another node sees them."""
    return kept.moved(kept.folder.with_name(name))


def test_what_one_node_saves_another_one_opens(kept, stored):
    assert kept.begin() == ""
    name = kept.save(Trainer(1, mark=4.0), last=False)
    other = elsewhere(kept, "other")
    assert other.folder == kept.folder.with_name("other") / "train-1"
    assert other.newest() == name
    assert read_tensors(other.open(name))["network"]["w"].tolist() == [4.0] * 3
    assert read_values(other.open(name)) == {"epochs": 1}
    shutil.rmtree(kept.storage)
    assert other.open(name).is_dir()  # it lies there now


def test_the_two_newest_are_kept_and_all_are_removed_at_the_end(kept, stored):
    kept.begin()
    for epochs, steps in ((1, 0), (2, 0), (2, 7), (10, 0)):
        kept.save(Trainer(epochs, steps), last=False)
    assert stored() == ["1/000002-000000007", "1/000010-000000000"]
    kept.remove()
    assert Storage(kept.storage).names("runs") == []


def test_the_newest_is_that_of_the_most_progress_in_any_generation(kept, stored):
    kept.begin()
    most = kept.save(Trainer(9), last=False)
    after = elsewhere(kept, "after")
    assert after.begin() == most
    # A group that began again from the start, since it could not read what was there.
    after.save(Trainer(2), last=False)
    assert elsewhere(kept, "third").begin() == most
    assert stored() == ["1/000009-000000000", "2/000002-000000000"]


@pytest.mark.parametrize("damage", ["no manifest", "cut", "file missing"])
def test_one_that_is_not_whole_is_passed_over(kept, damage):
    kept.begin()
    before = kept.save(Trainer(1), last=False)
    newest = Path(kept.storage, "runs/train-1", kept.save(Trainer(2), last=False))
    if damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "cut":
        (newest / "state.safetensors").write_bytes(b"half")
    else:
        (newest / "state.safetensors").unlink()
    other = elsewhere(kept, "other")
    assert other.begin() == before
    name = f"{kept.generation}/{newest.name}"
    with pytest.raises(PipelineError, match=rf"the checkpoint {name} "):
        other.open(name)
    assert not list(other.folder.rglob(".*"))  # nothing half fetched is left
    kept_of_own = elsewhere(kept, "none")
    Storage(kept.storage).remove("runs")
    assert kept_of_own.begin() == ""


def test_a_former_generation_never_saves_again(kept, stored):
    kept.begin()
    kept.save(Trainer(1), last=False)
    after = elsewhere(kept, "after")
    after.begin()
    for last in (False, True):
        with pytest.raises(PipelineError, match="another group of workers has taken over this"):
            kept.save(Trainer(2), last=last)
    after.save(Trainer(2, mark=2.0), last=True)
    assert stored() == ["1/000001-000000000", "2/000002-000000000"]


def test_equal_moments_of_two_generations_are_two_checkpoints(kept):
    kept.begin()
    first = kept.save(Trainer(1, mark=1.0), last=False)
    after = replace(kept)  # on the same node
    assert after.begin() == first
    second = after.save(Trainer(1, mark=2.0), last=False)
    third = replace(kept)
    assert third.begin() == second
    assert read_tensors(third.open(first))["network"]["w"].tolist() == [1.0] * 3
    assert read_tensors(third.open(second))["network"]["w"].tolist() == [2.0] * 3


def test_one_that_never_began_saves_nothing(kept):
    kept.begin()
    with pytest.raises(PipelineError, match="another group"):
        elsewhere(kept, "other").save(Trainer(1), last=True)


class Away:
    """A file system that answers nothing while it is away."""

    def __init__(self, fs):
        self.fs, self.away = fs, False

    def __getattr__(self, name):
        if self.away:
            raise ConnectionError("connection refused")
        return getattr(self.fs, name)


@pytest.fixture
def away(monkeypatch, kept):
    """The storage; setting `away` cuts it off. Time passes in the waits alone."""
    fs, root = remote._open(kept.storage)
    fs = Away(fs)
    monkeypatch.setattr(remote, "_open", lambda _: (fs, root))
    clock_s = [0.0]
    monkeypatch.setattr(remote.time, "monotonic", lambda: clock_s[0])
    monkeypatch.setattr(remote.time, "sleep", lambda s: clock_s.__setitem__(0, clock_s[0] + s))
    fs.clock_s = clock_s
    return fs


def test_while_the_storage_is_away_the_training_goes_on(kept, stored, away):
    kept.begin()
    kept.save(Trainer(1), last=False)
    away.away = True
    begin_s = away.clock_s[0]
    assert kept.save(Trainer(2), last=False) == ""
    assert away.clock_s[0] - begin_s < 10
    away.away = False
    assert kept.save(Trainer(3), last=False).endswith("/000003-000000000")
    assert stored() == ["1/000001-000000000", "1/000003-000000000"]


def test_but_the_last_one_waits_for_it(kept, away):
    kept.begin()
    away.away = True
    with pytest.raises(AwayError, match=r"does not answer for 18\d s: connection refused"):
        kept.save(Trainer(1), last=True)


def test_a_storage_that_goes_away_hides_no_checkpoint(kept, away, monkeypatch):
    kept.begin()
    kept.save(Trainer(1), last=False)
    kept.save(Trainer(2), last=False)
    other = elsewhere(kept, "other")

    def vanish(self, name, to):
        away.away = True
        return get(self, name, to)

    get = Storage.get_file
    monkeypatch.setattr(Storage, "get_file", vanish)
    with pytest.raises(AwayError):
        other.newest()


def test_a_disk_that_is_full_is_no_storage_that_is_away(kept, monkeypatch):
    kept.begin()

    def full(trainer, folder):
        raise PipelineError("the checkpoint cannot be written")

    monkeypatch.setattr(checkpoints, "save_checkpoint", full)
    with pytest.raises(PipelineError, match="cannot be written"):
        kept.save(Trainer(1), last=False)


def test_those_of_a_folder_go_on_from_the_newest_that_is_whole(tmp_path):
    kept = LocalCheckpoints(tmp_path / "runs")
    assert kept.begin() == ""
    first = kept.save(Trainer(1), last=False)
    second = kept.save(Trainer(2), last=True)
    (kept.folder / second / "manifest.json").unlink()
    assert kept.moved(tmp_path / "other").begin() == first
    assert read_values(kept.open(first)) == {"epochs": 1}
    assert [path.name for path in kept.folder.iterdir()] == [first]


def test_files_of_a_run_folder(tmp_path):
    path = tmp_path / "run ü/log"
    assert not LOCAL.exists(path)
    LOCAL.append(path, "1\n")
    LOCAL.append(path, "2\n")
    assert path.read_text() == "1\n2\n"
    LOCAL.replace(path, "3\n")
    assert (path.read_text(), LOCAL.exists(path)) == ("3\n", True)
