from types import SimpleNamespace

import pytest
import torch

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
