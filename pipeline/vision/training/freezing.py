"""Which layers are trained in which epoch."""

import math

from torch import nn

from pipeline.params.choices.training import Training
from pipeline.vision.networks import Classifier
from pipeline.vision.networks.depth import depth_groups


class Freezing:
    """The depth groups of a network, and from which of them on an epoch trains.

    'all' trains every group, 'head' and 'probe' the last one. 'gradual' (Howard and Ruder 2018)
    begins with the head and adds group by group from there down, all of them when half of the
    epochs are done.
    """

    def __init__(self, network: Classifier, recipe: Training) -> None:
        self._network, self._recipe = network, recipe
        self._groups = depth_groups(network)

    @property
    def parameters(self) -> list[list[nn.Parameter]]:
        """The parameters that are trained sooner or later, by depth."""
        first = len(self._groups) - 1 if self._recipe.trainable in ("head", "probe") else 0
        return [
            [parameter for module in group for parameter in module.parameters()]
            for group in self._groups[first:]
        ]

    def first_trained(self, epoch: int) -> int:
        """Return the position of the first group that `epoch` (from 0) trains."""
        last = len(self._groups) - 1
        gradual = 1 - 2 * epoch / self._recipe.epochs
        left = {"all": 0.0, "head": 1.0, "probe": 1.0, "gradual": gradual}
        return max(0, math.ceil(last * left[self._recipe.trainable]))

    def apply(self, epoch: int) -> None:
        """Freeze and unfreeze for `epoch`.

        Frozen norms rest, and so do dropouts: those inside a group with it, those between groups
        while only the head is trained.
        """
        first = self.first_trained(epoch)
        self._network.train()
        if first == len(self._groups) - 1:
            self._network.extractor.eval()  # with what belongs to no group, such as dropout
        for position, group in enumerate(self._groups):
            for module in group:
                module.requires_grad_(position >= first)
                module.train(position >= first)


def settled_at(recipe: Training) -> int:
    """Return the first epoch (from 0) after which nothing more is unfrozen."""
    return math.ceil(recipe.epochs / 2) if recipe.trainable == "gradual" else 0
