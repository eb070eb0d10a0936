import resource
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.runtime.session.checkpoint_store import (
    checkpoints,
    go_back_to,
    newest_checkpoint,
    save_checkpoint,
)
from pipeline.vision.training.checkpoint import write_checkpoint

WEIGHTS = {"w": torch.zeros(3)}


class Trainer:
    """Saves next to nothing."""

    def __init__(self, epochs, steps):
        self.state = SimpleNamespace(epochs_done=epochs, steps_done=steps)

    def save(self, folder):
        write_checkpoint(folder, {"network": WEIGHTS}, WEIGHTS, {})


@pytest.fixture
def folder(tmp_path):
    for epochs, steps in ((0, 5), (9, 99), (10, 0), (10, 7)):
        save_checkpoint(Trainer(epochs, steps), tmp_path)
    return tmp_path


def test_the_two_newest_are_kept(folder):
    assert [path.name for path in checkpoints(folder)] == ["000010-000000007", "000010-000000000"]
    assert newest_checkpoint(folder) == checkpoints(folder)[0]


@pytest.mark.parametrize("damage", ["truncate", "delete", "empty"])
def test_a_damaged_one_is_passed_over_and_removed(folder, damage):
    newest, before = checkpoints(folder)
    state = newest / "state.safetensors"
    if damage == "truncate":
        state.write_bytes(state.read_bytes()[:-1])
    elif damage == "delete":
        state.unlink()
    else:
        for file in newest.iterdir():
            file.unlink()
    assert newest_checkpoint(folder) == before
    (folder / ".half-written").mkdir()
    go_back_to(before, folder)
    assert list(folder.iterdir()) == [before]


def test_with_none_left_all_are_removed(folder):
    for path in checkpoints(folder):
        (path / "manifest.json").unlink()
    assert newest_checkpoint(folder) is None
    go_back_to(None, folder)
    assert not list(folder.iterdir())


def test_no_folder_yet(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None
    go_back_to(None, tmp_path / "none")


def test_a_disk_that_takes_no_more_is_one_line_and_costs_no_earlier_checkpoint(folder):
    before = sorted(path.name for path in folder.iterdir())
    full = Trainer(11, 0)
    full.save = lambda path: write_checkpoint(path, {"network": {"w": torch.zeros(999)}}, {}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PipelineError, match=r"cannot be written: .*(File too large|code: 27)"):
            save_checkpoint(full, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in folder.iterdir()) == before
