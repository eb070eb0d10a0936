"""What the final model is made of: its layers, its first filters, and what it makes of an image."""

import numpy as np
import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.network import MAPS, draw_activations, draw_filters
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.network_words import of_cost
from pipeline.params import Params
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import FINAL, NETWORK_REPORT, PACKED, PICTURES
from pipeline.vision.anatomy.activations import activations, first_filters
from pipeline.vision.anatomy.layers import describe_network
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.networks import Classifier

_LAYERS_DRAWN = 8


def run(params: Params) -> None:
    """Describe models/final; draw its first filters and the maps of one image of packed/test."""
    test = ImageSet.open(PACKED / "test")
    bundle = load_matching(FINAL, test.info)
    described, network = bundle.description, bundle.network.cpu()
    report = describe_network(described.network, network, described.shape)
    normalize = Normalization.of(described.mean, described.std, torch.device("cpu"))
    write_report(NETWORK_REPORT, report)
    _draw(network, test, normalize, params.inspect.seed)
    amounts = {cost: of_cost(report.totals[cost], cost) for cost in ("parameters", "macs")}
    print(
        f"inspect: {report.network}, {len(report.layers)} operations, {amounts['parameters']}"
        f" parameters, {amounts['macs']} multiply-accumulates per image"
    )


def _draw(network: Classifier, test: ImageSet, normalize: Normalization, seed: int) -> None:
    """Draw the first filters, and the maps of a test image."""
    row = int(np.random.default_rng(seed).integers(len(test)))
    image = test.gather(np.array([row]))
    found = activations(network, normalize(image), _LAYERS_DRAWN, MAPS)
    folder = PICTURES / "inspect"
    save(draw_filters(*first_filters(network)), folder / "filters.png")
    figure = draw_activations(
        image[0],
        test.info.classes[test.labels[row]],
        test.paths[row],
        [(one.name, one.maps, one.channels) for one in found],
    )
    save(figure, folder / "activations.png")
