"""Real processes over gloo, against plain batch norms that see the whole batch at once."""

import copy
import warnings

import pytest
import torch
from torch import distributed, multiprocessing, nn

from pipeline.vision.training.sync_norm import synchronise_norms

SHARES = {2: [(5, 3), (4, 4)], 3: [(5, 3, 2), (6, 0, 2)]}
STEPS = 3


def build_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.BatchNorm1d(6, affine=False, momentum=None),
        nn.Linear(6, 3),
    )


def batch(step):
    generator = torch.Generator().manual_seed(step)
    images = 3 + 2 * torch.randn(8, 2, 5, 5, generator=generator)
    targets = torch.randn(8, 3, generator=generator)
    return images, targets


def total_loss(logits, targets):
    return (logits * targets).sum() + logits.square().sum()


def one_pass(network, images, targets):
    """Outputs, gradients and statistics of one step, as plain tensors."""
    images = images.clone().requires_grad_(True)
    network.zero_grad()
    logits = network(images)
    total_loss(logits, targets).backward()
    return {
        "logits": logits.detach(),
        "slope": images.grad,
        **{f"by {name}": p.grad.clone() for name, p in network.named_parameters()},
        **{name: buffer.clone() for name, buffer in network.named_buffers()},
    }


def train(network, rows, factor):
    """Take steps of SGD; return the weights and statistics after them."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for step in range(STEPS):
        images, targets = batch(step)
        optimizer.zero_grad()
        (total_loss(network(images[rows]), targets[rows]) / len(images) * factor).backward()
        optimizer.step()
    return {name: value.clone() for name, value in network.state_dict().items()}


def work(rank, folder, workers):
    """Run one worker and write what it computed."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), workers)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    results = {}
    for shares in SHARES[workers]:
        start = sum(shares[:rank])
        rows = slice(start, start + shares[rank])
        images, targets = batch(0)
        network = synchronise_norms(build_network())
        single = one_pass(network, images[rows], targets[rows])
        network = synchronise_norms(build_network())
        wrapped = nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)
        train(wrapped, rows, workers)
        results[str(shares)] = {"single": single, "trained": network.state_dict()}
        network.eval()
        results[str(shares)]["judged"] = network(images[:1]).detach()
    norm = synchronise_norms(nn.Sequential(nn.BatchNorm2d(2)))
    results["offset"] = norm(1e4 + batch(0)[0][rank::workers]).detach()
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def results(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    # Workers are forked from a process that imported torch once for all of them.
    multiprocessing.set_forkserver_preload([__name__])
    multiprocessing.start_processes(
        work, (folder, request.param), request.param, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def assert_close(some, others):
    torch.testing.assert_close(some, others, rtol=1e-5, atol=1e-5)


def test_a_step_is_that_of_one_process_with_the_whole_batch(results):
    whole = one_pass(build_network(), *batch(0))
    for shares in SHARES[len(results)]:
        parts = [result[str(shares)]["single"] for result in results]
        for name, expected in whole.items():
            if name in {"logits", "slope"}:
                assert_close(torch.cat([part[name] for part in parts]), expected)
            elif name.startswith("by "):
                assert_close(torch.stack([part[name] for part in parts]).sum(dim=0), expected)
            else:
                for part in parts:
                    assert_close(part[name], expected)


def test_data_parallel_training_is_that_of_one_process(results):
    network = build_network()
    expected = train(network, slice(None), 1)
    network.eval()
    judged = network(batch(0)[0][:1]).detach()
    for shares in SHARES[len(results)]:
        for result in results:
            trained = result[str(shares)]["trained"]
            assert list(trained) == list(expected)
            for name, value in trained.items():
                assert_close(value, expected[name])
            assert_close(result[str(shares)]["judged"], judged)


def test_nothing_cancels_where_a_mean_is_large(results):
    images = (1e4 + batch(0)[0]).double()
    expected = nn.BatchNorm2d(2).double()(images).float()
    for rank, result in enumerate(results):
        own = expected[rank :: len(results)].detach()
        # A float at 1e4 knows its last digit to some 5e-4.
        torch.testing.assert_close(result["offset"], own, rtol=0, atol=2e-3)


def test_alone_nothing_is_changed():
    network = build_network()
    layers = list(network.modules())
    assert synchronise_norms(network) is network
    assert all(a is b for a, b in zip(network.modules(), layers, strict=True))


def test_a_group_of_one_changes_nothing(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert type(synchronise_norms(build_network())[1][0]) is nn.BatchNorm2d
    finally:
        distributed.destroy_process_group()


def held(network):
    """Names and identities of parameters and buffers, in order."""
    parameters = [(name, id(parameter)) for name, parameter in network.named_parameters()]
    return parameters, [(name, id(buffer)) for name, buffer in network.named_buffers()]


def test_layers_keep_parameters_and_statistics_and_can_be_copied(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_backend", lambda: "gloo")
    network = build_network()
    before = held(network)
    assert synchronise_norms(network) is network
    assert type(network[1][0]) is not nn.BatchNorm2d
    assert held(network) == before
    twin = copy.deepcopy(network).eval()
    assert torch.equal(twin(batch(0)[0]), build_network().eval()(batch(0)[0]))
