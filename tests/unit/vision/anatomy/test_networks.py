"""What is said of every network is what torch counts and differentiates."""

from math import prod

import pytest
import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.vision.anatomy.fully_convolutional import fully_convolutional
from pipeline.vision.anatomy.layers import describe_network, receptive_fields
from pipeline.vision.networks import BUILDERS, build_network, count_parameters

ARGS = {
    "plain": {
        "blocks": [
            {"filters": 4, "kernel": 4, "stride": 2, "pool": {"kind": "max", "size": 3}},
            {"filters": 6, "kernel": 3, "padding": "full", "batch_norm": True},
            {"filters": 5, "kernel": 5, "padding": "valid"},
        ],
        "dense": [{"units": 7, "dropout": 0.5}],
    }
}
SHAPE, LARGE = (3, 45, 41), (3, 66, 70)  # the smallest side that AlexNet takes is 63
SAMPLED = 4  # operations of each network whose gradient is computed
# The smallest of each family, which does all that the others do.
SMALLEST = (
    *("plain", "lenet5", "resnet20", "alexnet", "vgg11_bn", "squeezenet1_1", "resnet18"),
    *("resnext50_32x4d", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "mnasnet1_0"),
    *("shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
)


def build(name):
    """Build a network quickly, with positive weights that keep the scale of what passes."""
    shape = LARGE if name == "alexnet" else SHAPE
    # That of RegNet computes its widths with tensors.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = build_network(name, ARGS.get(name, {}), shape, 5)
    network.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = prod(parameter.shape[1:]) if parameter.ndim in (2, 4) else 1
            parameter.uniform_(0.5 / spread, 1 / spread)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return network.eval(), shape


class Volumes(fx.Interpreter):
    """Runs a graph and keeps what the nodes return."""

    def run_node(self, n):
        result = super().run_node(n)
        self.kept = {**getattr(self, "kept", {}), n.name: result}
        return result


def let_gradients_through(network):
    """Replace layers behind which a gradient may be zero although the pixel counts."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            new = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
        elif isinstance(module, nn.Sigmoid | nn.Hardsigmoid):
            new = nn.Softsign()
        elif isinstance(module, nn.ReLU | nn.ReLU6 | nn.SiLU | nn.Hardswish | nn.GELU):
            new = nn.Identity()
        else:
            continue
        network.set_submodule(name, new)
    return network.double()


def extent(gradient, dim):
    """Return the first and last row (or column) in which a gradient is not zero."""
    hit = torch.nonzero(gradient.abs().sum(dim=(0, 1, 5 - dim))).flatten()
    return int(hit[0]), int(hit[-1])


@pytest.mark.parametrize("name", BUILDERS)
def test_parameters_and_operations_are_those_that_torch_counts(name):
    network, shape = build(name)
    report = describe_network(name, network, shape)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.rand(1, *shape))
    assert 2 * report.totals["macs"] == counter.get_total_flops()
    assert report.totals["parameters"] == count_parameters(network)
    assert report.layers[-1].output == (5,)


@pytest.mark.parametrize("name", SMALLEST)
def test_receptive_fields_are_the_pixels_with_a_gradient(name):
    network, shape = build(name)
    image = torch.rand(1, *shape)
    with torch.inference_mode():
        maps, logits = fully_convolutional(network, shape)(image), network(image)
    assert maps.shape == (1, 5, 1, 1)
    torch.testing.assert_close(maps.flatten(1), logits, rtol=1e-4, atol=0)

    fields = receptive_fields(network, shape)
    graph = fx.symbolic_trace(let_gradients_through(network))
    volumes = Volumes(graph)
    pixels = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    volumes.run(pixels)
    known = [
        key
        for key, (rows, columns) in fields.items()
        if isinstance(volumes.kept[key], torch.Tensor)
        and (
            volumes.kept[key].ndim == 2
            or volumes.kept[key].shape[2:] == (rows.units, columns.units)
        )
        and float(rows.jump).is_integer()
    ]
    for number in range(SAMPLED):
        key = known[(len(known) - 1) * number // (SAMPLED - 1)]
        rows, columns = fields[key]
        unit = (0, 0) if number == 1 else (rows.units // 2, columns.units // 2)
        volume = volumes.kept[key][0]
        channels = volume if volume.ndim == 1 else volume[:, unit[0], unit[1]]
        weighted = (channels * torch.rand_like(channels)).sum()
        (gradient,) = torch.autograd.grad(weighted, pixels, retain_graph=True)
        unit = unit if volume.ndim > 1 else (0, 0)
        assert extent(gradient, 2) == rows.extent(unit[0]), key
        assert extent(gradient, 3) == columns.extent(unit[1]), key
