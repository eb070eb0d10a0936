import weakref

import numpy as np
import pytest
import torch

from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.training.sources import (
    Features,
    MappedPixels,
    PixelTransform,
    ResidentPixels,
    open_pixels,
)
from tests.packed import BARS, bars, write_set

CPU = torch.device("cpu")
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
NORMALIZATION = Normalization.of(MEAN, STD, CPU)
ROWS = np.array([4, 0, 4, 7])


@pytest.fixture(params=[np.uint8, np.uint16])
def images(request, tmp_path):
    rng = np.random.default_rng(0)
    top = np.iinfo(request.param).max
    pixels = rng.integers(0, top, (9, 5, 4, 3), endpoint=True).astype(request.param)
    return write_set(tmp_path, pixels, [0, 1, 2] * 3, BARS)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pixels_on_the_host_and_on_the_device_normalised_by_hand(images, memory_format):
    transform = PixelTransform.of(images.info, NORMALIZATION, None, memory_format)
    raw = images.gather(ROWS) / np.iinfo(images.info.dtype).max
    expected = ((raw - MEAN) / STD).transpose(0, 3, 1, 2)
    for source in (
        MappedPixels(images, transform, pin=False),
        ResidentPixels(images, transform, CPU),
    ):
        found = source.prepare(source.fetch(ROWS), {})
        assert np.allclose(found.numpy(), expected, atol=1e-5)
        assert found.is_contiguous(memory_format=memory_format)
        assert source.labels.tolist() == [0, 1, 2] * 3


def test_pixels_move_to_the_device_block_by_block(images, monkeypatch):
    """Never does the host hold the whole set."""
    blocks, alive = [], []

    def one_by_one(images, _):
        for row in range(len(images)):
            block = images.gather(np.array([row]))
            blocks.append(weakref.ref(block))
            alive.append(sum(ref() is not None for ref in blocks))
            yield block

    monkeypatch.setattr(type(images), "batches", one_by_one)
    transform = PixelTransform.of(images.info, NORMALIZATION)
    resident = ResidentPixels(images, transform, CPU)
    assert max(alive) <= 2  # the one before is let go once the next is there
    mapped = MappedPixels(images, transform, pin=False)
    found, expected = (s.prepare(s.fetch(np.arange(9)), {}) for s in (resident, mapped))
    assert torch.equal(found, expected)


def test_a_processor_reads_from_the_map(images):
    transform = PixelTransform.of(images.info, NORMALIZATION)
    assert isinstance(open_pixels(images, transform, CPU), MappedPixels)


def test_features_are_taken_by_row(tmp_path):
    images = write_set(tmp_path, *bars(9), BARS)
    features = torch.arange(18.0).reshape(9, 2)
    source = Features(features, images.labels.astype(np.int64))
    assert source.prepare(source.fetch(ROWS), {}).tolist() == [[8, 9], [0, 1], [8, 9], [14, 15]]
