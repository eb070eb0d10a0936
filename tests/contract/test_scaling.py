"""docs/scaling.md shows what tests/benchmarks/scaling.py computes, and that is right."""

import pytest
import torch

from pipeline.vision._torchvision import import_torchvision
from tests.benchmarks import scaling
from tests.contract.imports import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text()


def test_the_page_shows_the_tables():
    for cluster in scaling.CLUSTERS:
        assert f"{cluster.name.partition(',')[0]} within a node," in PAGE
        assert scaling.scaling_table(cluster) in PAGE
    assert scaling.input_table(scaling.CLUSTERS[0]) in PAGE
    assert scaling.fetch_table() in PAGE


def test_the_network_is_resnet50():
    with torch.device("meta"):
        network = import_torchvision().models.resnet50()
    assert sum(weights.numel() for weights in network.parameters()) == scaling.PARAMETERS
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == scaling.NORMS


def test_two_rows_by_hand():
    slow, _, fast = scaling.CLUSTERS
    # 8 GPUs with PCIe: 178.9 MB at 16 GB/s are 11.18 ms, less than the backward pass's 34.13 ms.
    # 26.21 of 102.23 MB wait: 2.87 ms. 106 collectives of 40 us: 4.24 ms. Arithmetic: 51.2 ms.
    assert scaling.ring_bytes(8, 4) == pytest.approx(2 * 7 / 8 * 102_228_128)
    assert scaling.all_reduce_s(slow, 8) == pytest.approx(11.181e-3, rel=1e-4)
    assert scaling.step_s(slow, 8, 128, sync_norms=True) == pytest.approx(58.31e-3, rel=1e-4)
    assert scaling.rate(slow, 8) == pytest.approx(1024 / 58.31e-3, rel=1e-4)
    # 64 GPUs, 25 Gbit/s: 201.26 MB at 3.125 GB/s are 64.40 ms. The backward pass hides 34.13. 106
    # collectives of 100 us: 10.6 ms.
    exposed_s = 64.404e-3 - 34.133e-3
    assert scaling.step_s(slow, 64, 128, sync_norms=False) == pytest.approx(
        51.2e-3 + exposed_s, rel=1e-4
    )
    assert scaling.rate(slow, 64) == pytest.approx(
        64 * 128 / (51.2e-3 + exposed_s + 10.6e-3), rel=1e-4
    )
    # A batch that is shared out: 16 images of each of 64 GPUs take 6.4 ms.
    shared_s = scaling.step_s(fast, 64, 16, sync_norms=False)
    assert scaling.all_reduce_s(fast, 64) == pytest.approx(4.0253e-3, rel=1e-4)
    assert shared_s == pytest.approx(6.4e-3 + 4.0253e-3 * 26_214_400 / 102_228_128, rel=1e-4)
