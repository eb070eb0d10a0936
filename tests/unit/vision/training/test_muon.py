import pytest
import torch
from torch import nn

from pipeline.params.choices.training import Muon
from pipeline.vision.training.muon import orthogonalise
from pipeline.vision.training.optimizers import build_optimizer

HOW = Muon(name="muon", lr=0.02, momentum=0.9, weight_decay=0.05)


def parameters():
    """Return filters, a bias, a dense layer, and a head with its bias."""
    torch.manual_seed(0)
    shapes = [(6, 3, 3, 3), (6,), (4, 24), (3, 4), (3,)]
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def take_steps(some, *optimizers):
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for parameter in some:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
    return [parameter.detach() for parameter in some]


def build(some, how=HOW):
    return build_optimizer([some[:2], some[2:3], some[3:]], how)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_torch_on_matrices_and_of_adamw_elsewhere(layout):
    """torch's Muon computes the orthogonal step in bf16, which has 8 bits."""
    own = parameters()
    own[0] = nn.Parameter(own[0].detach().clone(memory_format=layout))
    found = take_steps(own, build(own))
    plain = [nn.Parameter(p.detach().flatten(1) if p.ndim > 1 else p) for p in parameters()]
    matrices, others, head = [plain[0], plain[2]], [plain[1], plain[4]], [plain[3]]
    muon = torch.optim.Muon(
        matrices,
        0.02,
        weight_decay=0.05,
        momentum=0.9,
        adjust_lr_fn="match_rms_adamw",
    )
    groups = [{"params": others, "weight_decay": 0.0}, {"params": head, "weight_decay": 0.05}]
    expected = take_steps(plain, muon, torch.optim.AdamW(groups, 0.02, betas=(0.9, 0.999)))
    for one, other in zip(found, expected, strict=True):
        scale = 2e-3 if one.ndim > 1 else 1e-6
        assert torch.allclose(one.flatten(), other.flatten(), atol=scale)


def test_a_step_has_equal_singular_values_and_the_length_of_adamws():
    own = parameters()
    before = own[2].detach().clone()
    take = build(own, HOW.model_copy(update={"weight_decay": 0.0}))
    own[2].grad = torch.randn(4, 24) @ torch.diag(torch.logspace(-2, 1, 24))
    take.step()
    moved = before - own[2].detach()
    values = torch.linalg.svdvals(moved)
    assert values.max() / values.min() < 2
    # 0.2 of the rate: what AdamW's steps have in the mean.
    assert moved.square().mean().sqrt() == pytest.approx(0.2 * 0.02, rel=0.25)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (7, 7), (1, 9)])
def test_orthogonalised_matrices_keep_their_directions(shape):
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise(matrix)
    inner = left.T @ found @ right.T
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-4)
    assert (inner.diagonal() > 0.6).all()
    assert (inner.diagonal() < 1.3).all()
    assert len(values) == min(shape)


def test_no_gradient_is_no_direction():
    assert torch.equal(orthogonalise(torch.zeros(3, 5)), torch.zeros(3, 5))
