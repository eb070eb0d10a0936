import numpy as np
import pytest
import torch

from pipeline.vision._torchvision import import_torchvision
from tests.augmentations import COLOR, build_augment, draw


def test_colour_is_what_torchvision_does(images):
    import_torchvision()
    from torchvision.transforms import functional

    for name, adjust in (
        ("brightness", functional.adjust_brightness),
        ("contrast", functional.adjust_contrast),
        ("saturation", functional.adjust_saturation),
        ("hue", functional.adjust_hue),
    ):
        zeros = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
        augment = build_augment([{"color": {**zeros, name: 0.5}}], (10, 12, 3))
        draws = draw(augment, len(images))
        assert set(draws) == {f"0.color.{name}"}
        factors = draws[f"0.color.{name}"].tolist()
        expected = [adjust(image, factor) for image, factor in zip(images, factors, strict=True)]
        # torchvision weighs red with 0.2989, not 0.299.
        torch.testing.assert_close(
            augment.apply(images, draws), torch.stack(expected), rtol=0, atol=2e-4
        )


def test_colours_come_in_the_order_of_their_names(images):
    import_torchvision()
    from torchvision.transforms import functional

    augment = build_augment([COLOR], (10, 12, 3))
    draws = draw(augment, len(images))
    expected = []
    for row, image in enumerate(images):
        changed = functional.adjust_brightness(image, draws["0.color.brightness"][row].item())
        changed = functional.adjust_contrast(changed, draws["0.color.contrast"][row].item())
        changed = functional.adjust_saturation(changed, draws["0.color.saturation"][row].item())
        expected.append(functional.adjust_hue(changed, draws["0.color.hue"][row].item()))
    torch.testing.assert_close(
        augment.apply(images, draws), torch.stack(expected), rtol=0, atol=2e-3
    )


def test_hue_of_pure_colours_and_greys():
    colours = [
        (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1),
        (0, 0, 0), (1, 1, 1), (0.3, 0.3, 0.3), (0.1, 0.7, 0.7),
    ]  # fmt: skip
    ((_, item),) = build_augment([COLOR], (1, 10, 3)).items
    image = torch.tensor(colours, dtype=torch.float32).T.reshape(1, 3, 1, 10)
    turned = item.apply(image, {"hue": torch.tensor([1 / 3])})
    # A third of the circle: red becomes green, green blue, blue red.
    torch.testing.assert_close(turned, image[:, [2, 0, 1]], rtol=0, atol=1e-6)
    turned = item.apply(image, {"hue": torch.tensor([0.5])})[0, :, 0].T
    chroma = image.amax(1) + image.amin(1) - image
    torch.testing.assert_close(turned, chroma[0, :, 0].T, rtol=0, atol=1e-6)


def test_colour_factors_are_uniform_and_independent():
    draws = draw(build_augment([COLOR], (4, 4, 3)), 20_000)
    values = np.stack([draws[f"0.color.{n}"] for n in ("brightness", "contrast", "saturation")])
    assert values.min() == pytest.approx(0.6, abs=1e-3)
    assert values.max() == pytest.approx(1.4, abs=1e-3)
    assert values.mean(axis=1) == pytest.approx([1.0] * 3, abs=0.01)
    hue = draws["0.color.hue"].numpy()
    assert (hue.min(), hue.max()) == pytest.approx((-0.2, 0.2), abs=1e-3)
    assert np.abs(np.corrcoef([*values, hue]) - np.eye(4)).max() < 0.05
