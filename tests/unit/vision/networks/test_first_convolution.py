import pytest
import torch
from torch.nn import functional

from pipeline.vision.networks import build_network
from pipeline.vision.networks.first_convolution import adapt_kernels, first_kernels


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3), (3, 4), (1, 1), (4, 2)])
def test_a_grey_image_gives_the_response_that_it_gave(old, new):
    kernels, grey = draw(5, old, 3, 3), draw(2, 1, 8, 8)
    before = functional.conv2d(grey.expand(-1, old, -1, -1), kernels)
    adapted = adapt_kernels(kernels, new)
    assert adapted.shape == (5, new, 3, 3)
    after = functional.conv2d(grey.expand(-1, new, -1, -1), adapted)
    assert torch.allclose(after, before, atol=1e-5)


def test_three_channels_to_one_by_hand():
    kernels = torch.tensor([[[[1.0]], [[2.0]], [[4.0]]]])
    assert adapt_kernels(kernels, 1).flatten().tolist() == [7.0]
    assert adapt_kernels(kernels, 2).flatten().tolist() == [3.5, 3.5]


def test_the_name_of_the_first_kernels():
    assert first_kernels(build_network("squeezenet1_1", {}, (1, 32, 32), 2)) == (
        "extractor.features.0.weight"
    )
    assert first_kernels(build_network("plain", {"blocks": []}, (1, 4, 4), 2)) is None
