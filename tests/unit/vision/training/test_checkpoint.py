import json

import pytest
import torch

from pipeline.vision.training.checkpoint import (
    BEST_FILE,
    first_whole,
    is_whole,
    plain,
    read_best,
    read_tensors,
    read_values,
    write_checkpoint,
)

STATE = {
    "network": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)},
    "optimizer": {"0/step": torch.tensor(2.0)},
    "average": {},
}


def write(folder):
    write_checkpoint(folder, STATE, {"a.weight": torch.ones(2, 3)}, {"epochs_done": 4})
    return folder


def test_what_was_written_is_read(tmp_path):
    folder = write(tmp_path / "one")
    state = read_tensors(folder)
    assert set(state) == {"network", "optimizer"}
    for group, tensors in state.items():
        assert set(tensors) == set(STATE[group])
        assert all(torch.equal(tensor, STATE[group][name]) for name, tensor in tensors.items())
    assert torch.equal(read_best(folder)["a.weight"], torch.ones(2, 3))
    assert read_values(folder) == {"epochs_done": 4}


def test_tensors_in_channels_last_order_are_written_by_value(tmp_path):
    value = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    write_checkpoint(tmp_path, {"network": {"w": value}}, {"w": plain(value)}, {})
    assert torch.equal(read_tensors(tmp_path)["network"]["w"], value)
    assert plain(value).is_contiguous()


@pytest.mark.parametrize(
    "name", ["state.safetensors", BEST_FILE, "training_state.json", "manifest.json"]
)
@pytest.mark.parametrize("how", ["truncated", "missing", "changed"])
def test_a_checkpoint_that_is_not_whole_is_noticed(tmp_path, name, how):
    older, newer = write(tmp_path / "older"), write(tmp_path / "newer")
    assert first_whole([newer, older]) == newer
    path = newer / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        changed = bytes([content[-3] ^ 1])
        path.write_bytes(content[:-3] + (changed + content[-2:] if how == "changed" else b""))
    assert not is_whole(newer)
    assert first_whole([newer, older]) == older
    assert first_whole([newer]) is None


def test_a_manifest_of_another_kind_is_not_whole(tmp_path):
    folder = write(tmp_path)
    (folder / "manifest.json").write_text(json.dumps(["state.safetensors"]))
    assert not is_whole(folder)
