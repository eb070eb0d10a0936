"""A network that reads larger images gives what its original gives window by window."""

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.params.choices.networks import Block, Dense, Pool
from pipeline.vision.anatomy.fully_convolutional import fully_convolutional
from pipeline.vision.networks.plain import build_plain


def valid_lenet():
    """Two valid convolutions with pooling; the second pooling overlaps."""
    blocks = [
        Block(filters=6, kernel=5, padding="valid", pool=Pool(kind="max", size=2)),
        Block(filters=16, kernel=3, padding="valid", pool=Pool(kind="average", size=3, stride=2)),
    ]
    dense = [Dense(units=20, dropout=0.5), Dense(units=9)]
    return build_plain((1, 28, 32), 10, blocks, dense), (1, 28, 32), (4, 4)


def adaptive(rows, columns):
    """A valid convolution with a stride, and adaptive pooling before the dense layer."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=(2, 3)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((rows, columns)),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * rows * columns, 5),
    )
    network[1].running_mean.normal_()
    return network, (3, 17, 24), (2, 3)


CASES = {
    "lenet": valid_lenet,
    "global": lambda: adaptive(1, 1),
    "windows of two sizes": lambda: adaptive(3, 5),
    "windows that repeat": lambda: adaptive(9, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_without_padding_a_map_equals_sliding_windows(case):
    torch.manual_seed(0)
    network, (channels, height, width), (down, right) = CASES[case]()
    network.eval()
    images = torch.randn(2, channels, height + 3 * down, width + 2 * right)
    with torch.inference_mode():
        maps = fully_convolutional(network, (channels, height, width))(images)
        windows = images.unfold(2, height, down).unfold(3, width, right)
        expected = torch.stack(
            [
                torch.stack([network(windows[:, :, i, j]) for j in range(windows.shape[3])], -1)
                for i in range(windows.shape[2])
            ],
            -2,
        )
    assert maps.shape == (2, expected.shape[1], 4, 3)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01  # windows differ


def test_the_original_stays_as_it_is():
    network = adaptive(3, 5)[0].train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    converted = fully_convolutional(network, (3, 17, 24))
    assert network.training
    assert not converted.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.Conv2d(3, 4, 3), nn.Flatten()], "no dense layer"),
        ([nn.AdaptiveAvgPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)], "stands between"),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2), nn.Softmax(0)], "its head holds"),
    ],
)
def test_other_heads_are_refused(layers, reason):
    with pytest.raises(PipelineError, match=reason):
        fully_convolutional(nn.Sequential(*layers), (3, 6, 6))


def test_too_small_images_are_refused():
    with pytest.raises(PipelineError, match="4 x 6 px"):
        fully_convolutional(valid_lenet()[0], (1, 4, 6))
