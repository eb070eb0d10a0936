import numpy as np
import pytest
import torch

from pipeline.vision.bundle.inputs import Batch, Normalization, to_unit

CPU = torch.device("cpu")


def test_sixteen_bit_pixels_are_scaled_by_their_own_range():
    images = np.array([[[[65535]]], [[[257 * 51]]]], np.uint16)
    assert to_unit(images, CPU).flatten().tolist() == pytest.approx([1.0, 0.2])


def test_channels_are_normalized_by_their_own_mean_and_std():
    normalize = Normalization.of((0.5, 0.2, 0.0), (0.5, 0.1, 1.0), CPU)
    images = np.full((2, 1, 1, 3), 51, np.uint8)  # 0.2
    assert normalize(images)[1, :, 0, 0].tolist() == pytest.approx([-0.6, 0.0, 0.2])
    assert (images == 51).all()


def test_the_inputs_of_a_batch_are_made_once():
    normalize = Normalization.of((0.0,), (1.0,), CPU)
    batch = Batch(np.zeros((2, 4, 4, 1), np.uint8), normalize)
    assert batch.inputs is batch.inputs
    assert batch.digests is batch.digests


def test_digests_tell_images_apart_and_nothing_else():
    normalize = Normalization.of((0.0,), (1.0,), CPU)
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 1), np.uint8)
    images[2] = images[0]
    first, second, third = Batch(images, normalize).digests
    assert first == third != second
    # Also of a part of another array, in other strides.
    wide = np.zeros((3, 5, 8, 1), np.uint8)
    wide[:, :, ::2] = images
    assert Batch(wide[1:2, :, ::2], normalize).digests == [second]
