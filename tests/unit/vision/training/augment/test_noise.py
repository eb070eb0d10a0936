import numpy as np
import pytest
import torch

from pipeline.vision.training.augment.noise import normal
from tests.augmentations import NOISE, build_augment, draw


def test_noise_is_normal_and_independent_between_images_and_pixels():
    seeds = torch.from_numpy(np.random.default_rng(0).integers(-(2**31), 2**31, 64, np.int32))
    # Neighbours among seeds are as far apart as others.
    seeds[:8] = torch.arange(8, dtype=torch.int32)
    count = 4001
    noise = normal(seeds, count, 2.0).double().numpy() / 2.0
    assert noise.shape == (64, count)
    n = noise.size
    assert noise.mean() == pytest.approx(0, abs=5 / n**0.5)
    assert noise.var() == pytest.approx(1, abs=5 * (2 / n) ** 0.5)
    assert (noise**3).mean() == pytest.approx(0, abs=5 * (15 / n) ** 0.5)
    assert (noise**4).mean() == pytest.approx(3, abs=5 * (96 / n) ** 0.5)
    assert np.mean(np.abs(noise) < 0.6745) == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)
    # Between images, and between a pixel and those after it.
    between = np.corrcoef(noise) - np.eye(64)
    assert np.abs(between).max() < 6 / count**0.5
    for lag in (1, 2, 63, 2000):
        assert np.mean(noise[:, :-lag] * noise[:, lag:]) == pytest.approx(0, abs=5.5 / n**0.5)
    # The two values of one draw of bits are not of one size either.
    first, second = noise[:, :2001][:, :2000], noise[:, 2001:]
    assert np.corrcoef(np.abs(first).ravel(), np.abs(second).ravel())[0, 1] == pytest.approx(
        0, abs=5 / second.size**0.5
    )


def test_noise_has_the_strength_asked_for_and_its_own_seed_per_image():
    augment = build_augment([NOISE], (40, 40, 1))
    grey = torch.full((20, 1, 40, 40), 0.5)
    draws = draw(augment, 20)
    added = augment.apply(grey, draws) - grey
    assert added.std().item() == pytest.approx(0.1, rel=0.02)
    assert draws["0.noise.seed"].dtype == torch.int32
    assert len(set(draws["0.noise.seed"].tolist())) == 20
    draws["0.noise.seed"][:] = 7
    same = augment.apply(grey, draws)
    assert torch.equal(same, same[:1].expand_as(same))


def test_no_noise_changes_nothing(images):
    augment = build_augment([{"noise": {"std": 0}}], (10, 12, 3))
    assert torch.equal(augment.apply(images, draw(augment, len(images))), images)
