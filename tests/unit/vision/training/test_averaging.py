import torch
from torch import nn

from pipeline.vision.training.averaging import AveragedModel


def test_the_average_recomputed():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = AveragedModel(module, decay=0.3)
    expected = None
    for update in range(6):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(5, 3))  # moves the norm's statistics
        average.update()
        now = {name: value.double().clone() for name, value in module.state_dict().items()}
        decay = min(0.3, (1 + update) / (10 + update))
        expected = expected and {
            name: decay * old + (1 - decay) * now[name] for name, old in expected.items()
        }
        expected = expected or now
    for name, value in average.module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 6
        else:
            assert torch.allclose(value.double(), expected[name], atol=1e-6), name


def test_it_goes_on_from_its_state():
    torch.manual_seed(0)
    module, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    one, other = AveragedModel(module, 0.9), AveragedModel(twin, 0.9)
    one.update()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        module.weight.add_(1.0)
    twin.load_state_dict(module.state_dict())
    for average in (one, other):
        average.update()
    assert torch.equal(one.module.weight, other.module.weight)
    assert not torch.equal(one.module.weight, module.weight)


def test_an_update_reads_nothing_from_the_device():
    """On a device without values, whatever would wait for one fails."""
    module = nn.BatchNorm1d(2, device="meta")
    average = AveragedModel(module, 0.9)
    for _ in range(2):
        average.update()
    assert average.updates == 2
