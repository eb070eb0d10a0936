import torch
from torch import nn

from pipeline.vision.training.averaging import averaged_model


def test_the_average_recomputed():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = averaged_model(module, decay=0.3)
    expected = None
    for update in range(6):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(5, 3))  # moves the norm's statistics
        average.update_parameters(module)
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
    module = nn.Linear(3, 2)
    one, other = averaged_model(module, 0.9), averaged_model(nn.Linear(3, 2), 0.9)
    one.update_parameters(module)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        module.weight.add_(1.0)
    for average in (one, other):
        average.update_parameters(module)
    assert torch.equal(one.module.weight, other.module.weight)
    assert not torch.equal(one.module.weight, module.weight)
