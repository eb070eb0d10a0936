"""Layers by hand: LeNet-5, and the examples of every lecture."""

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.network import NetworkReport
from pipeline.evaluation.reports.network_words import of_cost, table_text
from pipeline.vision.anatomy.layers import describe_network


def describe(shape, *layers):
    return describe_network("net", nn.Sequential(*layers), shape)


def lenet5():
    """LeCun et al. 1998 on 32 px, every map of the third layer connected to all six."""
    return describe(
        (1, 32, 32),
        *(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()),
        nn.Linear(84, 10),
    )


def test_lenet5_layer_by_layer():
    report = lenet5()
    rows = [
        (one.kind, one.output, one.parameters, one.macs, one.activation_bytes)
        for one in report.layers
        if one.kind != "tanh"
    ]
    assert rows == [
        ("convolution", (6, 28, 28), 156, 117_600, 18_816),
        ("average pool", (6, 14, 14), 0, 0, 4_704),
        ("convolution", (16, 10, 10), 2_416, 240_000, 6_400),
        ("average pool", (16, 5, 5), 0, 0, 1_600),
        ("flatten", (400,), 0, 0, 0),
        ("dense", (120,), 48_120, 48_000, 480),
        ("dense", (84,), 10_164, 10_080, 336),
        ("dense", (10,), 850, 840, 40),
    ]
    fields = [(one.field.size, one.field.jump, one.field.start) for one in report.layers]
    assert fields[0] == ((5, 5), (1, 1), (2.5, 2.5))
    assert fields[2] == ((6, 6), (2, 2), (3.0, 3.0))
    assert fields[3] == ((14, 14), (2, 2), (7.0, 7.0))
    assert fields[5] == ((16, 16), (4, 4), (8.0, 8.0))
    assert fields[7] == ((32, 32), (0, 0), (16.0, 16.0))
    assert [one.field.sees_all for one in report.layers] == [False] * 7 + [True] * 5
    assert report.totals["parameters"] == 61_706
    assert report.most["parameters"] == {"7": 48_120, "9": 10_164, "3": 2_416}
    assert not report.branches


@pytest.mark.parametrize(
    ("shape", "layer", "parameters", "output"),
    [
        ((3, 6, 6), nn.Conv2d(3, 2, 3), 56, (2, 4, 4)),
        ((3, 6, 6), nn.Conv2d(3, 10, 3), 280, (10, 4, 4)),
        ((8, 32, 32), nn.Conv2d(8, 16, 5, padding=2), 3_216, (16, 32, 32)),
        ((1, 7, 9), nn.Conv2d(1, 1, 3, padding=2), 10, (1, 9, 11)),  # full
        ((1, 7, 9), nn.Conv2d(1, 1, 5, padding="same"), 26, (1, 7, 9)),
        ((1, 7, 9), nn.Conv2d(1, 1, 3, stride=(2, 3)), 10, (1, 3, 3)),
        ((4, 9, 9), nn.Conv2d(4, 8, 3, dilation=2, groups=2, bias=False), 144, (8, 5, 5)),
        ((2, 13, 13), nn.MaxPool2d(3, 2), 0, (2, 6, 6)),  # overlapping
    ],
)
def test_one_layer(shape, layer, parameters, output):
    found = describe(shape, layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()).layers[0]
    assert (found.parameters, found.output) == (parameters, output)


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (4, 3), (3, 5), (2, 7)])
def test_so_many_convolutions_see_one_and_their_reach(layers, kernel):
    report = describe((1, 40, 50), *(nn.Conv2d(1, 1, kernel) for _ in range(layers)), nn.Flatten())
    assert report.layers[layers - 1].field.size == (1 + layers * (kernel - 1),) * 2


def test_paths_that_meet_have_the_field_of_the_longest():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.long = nn.Sequential(nn.Conv2d(1, 1, (3, 5), padding=(1, 2)), nn.ReLU())
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid())

        def forward(self, x):
            y = x + self.long(x)
            return torch.cat([y, y * self.gate(y)], dim=1).mean((2, 3))

    report = describe_network("net", Block(), (1, 9, 8))
    found = {layer.name: layer.field for layer in report.layers}
    assert report.branches
    assert found["add"].size == (3, 5)
    assert found["add"].start == (0.5, 0.5)
    assert found["multiply"].sees_all
    assert found["concatenate"].sees_all
    assert [layer.output for layer in report.layers][-2:] == [(2, 9, 8), (2,)]


def test_frozen_layers_are_told_apart():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    network[0].requires_grad_(False)
    report = describe_network("net", network, (1, 4, 4))
    assert [layer.trainable for layer in report.layers] == [False, None, True]
    assert report.totals["trainable_parameters"] == 18
    text = table_text(report)
    assert " 20* " in text
    assert "18 of 38 parameters are trainable; the others are frozen." in text


def test_the_table_is_legible_and_the_report_can_be_read_again():
    report = lenet5()
    lines = table_text(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert "61,706 parameters: 7 78%, 9 16%, 3 4%" in lines
    row = next(line for line in lines if " 240 k " in line)
    assert " ".join(row.split()) == "3 convolution 5x5 16x10x10 2,416 240 k 6.4 kB 14 2 7"
    assert NetworkReport.model_validate_json(report.model_dump_json(), strict=True) == report


def test_amounts_are_short():
    amounts = [of_cost(value, "macs") for value in (0, 999, 1_000, 417_000, 999_600, 10**10)]
    assert amounts == ["0", "999", "1 k", "417 k", "1 M", "10 G"]
    assert of_cost(18_816, "activation_bytes") == "18.8 kB"


def test_what_cannot_be_described_says_why():
    with pytest.raises(PipelineError, match="of which is not known"):
        describe((1, 4, 4), nn.Conv2d(1, 1, 3), nn.PixelShuffle(1))
    with pytest.raises(PipelineError, match="does not take 2 x 4 px images of 1 channels"):
        describe((1, 2, 4), nn.Conv2d(1, 1, 3))

    class Decides(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(PipelineError, match="decides by values"):
        describe_network("net", Decides(), (1, 4, 4))
