"""Contrast against class prototypes: the expected supervised contrastive loss of endless samples.

Du, Wang, Song and Huang 2024 (ProCo): the directions of a class's features are taken to follow a
von Mises-Fisher distribution with the density e^(k u.z) / C(k) around the class's mean direction u.
Then the sum over all possible partners of an image has a closed form, for classes of any size. With
z of length 1, temperature t and prior p_j of class j, an image of class y costs

    -log softmax_y (log p_j + log C(|k_j u_j + z / t|) - log C(k_j))

C(k) = (2 pi)^(d/2) I_(d/2 - 1)(k) / k^(d/2 - 1), with I a modified Bessel function of the first
kind.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.params.choices.training import ClassPrototypes
from pipeline.vision.networks import Classifier
from pipeline.vision.training.losses import log_priors
from pipeline.vision.training.worker import Worker

# Beyond it the mean of a class says no more than that all its features point the same way.
_LARGEST_CONCENTRATION = 1e5


class Contrast:
    """What a training with several views of each image has beside the network.

    Attributes:
        module: the network with its second head.
        settings: from params.yaml.
    """

    def __init__(self, network: Classifier, settings: ClassPrototypes, worker: Worker) -> None:
        """Put a second head, seeded by torch's generator, beside the one of `network`."""
        width, classes = network.head.in_features, network.head.out_features
        self.settings = settings
        self.module = ContrastiveNetwork(network, width, settings.dimensions).to(worker.device)
        self._prototypes = Prototypes(classes, settings.dimensions, worker)
        self._log_priors = torch.zeros(classes, device=worker.device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of the second head."""
        return list(self.module.projection.parameters())

    def begin_epoch(self, epoch: int, class_counts: Tensor) -> None:
        """Take the epoch's targets per class, and the prototypes of the one before."""
        self._log_priors = log_priors(class_counts)
        self._prototypes.begin_epoch(epoch)

    def losses(self, directions: Tensor, labels: Tensor, *, gather: bool) -> Tensor:
        """Return the weighted loss of each image, the mean over its views.

        Args:
            directions: of the views, one block of n after the other.
            labels: n.
            gather: whether the prototypes of the next epoch learn of them.
        """
        views = labels.repeat(self.settings.views)
        if gather:
            self._prototypes.gather(directions, views)
        rows = self._prototypes.loss(directions, views, self._log_priors, self.settings.temperature)
        return self.settings.weight * rows.reshape(self.settings.views, -1).mean(dim=0)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that steps change beside the network."""
        return self.module.projection.state_dict() | self._prototypes.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        head = self.module.projection.state_dict()
        self.module.projection.load_state_dict({name: tensors[name] for name in head})
        self._prototypes.restore(tensors)


class ContrastiveNetwork(nn.Module):
    """A classifier with a second head, which maps features to directions; for training only."""

    def __init__(self, network: Classifier, width: int, dimensions: int) -> None:
        """Add a head from `width` features to `dimensions`, with one hidden layer of `width`."""
        super().__init__()
        self.network = network
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimensions)
        )

    def forward(self, inputs: Tensor, classified: int) -> tuple[Tensor, Tensor]:
        """Return the logits of the first `classified` inputs, and the directions of the others.

        Directions have length 1, in float32.
        """
        features = self.network.extractor(inputs)
        logits = self.network.head(features[:classified])
        projected = self.projection(features[classified:])
        return logits, functional.normalize(projected.float(), dim=1)


class Prototypes:
    """The distribution of each class's directions, as the epoch before has shown them.

    Within an epoch means are gathered for the next one: those of weights that have just changed
    would follow single batches. In the first epoch nothing is known, all directions of all classes
    are alike, and the loss has no gradient.
    """

    def __init__(self, classes: int, dimensions: int, worker: Worker) -> None:
        """Know nothing yet of `classes` in so many dimensions, 16 at least."""
        self._dimensions, self._workers = dimensions, worker.share.workers
        self._epoch = torch.tensor(-1)
        # Of directions, and their number in the last column: one exchange between workers.
        self._gathered = torch.zeros(classes, dimensions + 1, device=worker.device)
        self._pulls = torch.zeros(classes, dimensions, dtype=torch.float64, device=worker.device)

    def gather(self, directions: Tensor, labels: Tensor) -> None:
        """Count directions, n x d, of classes, n, towards the next epoch.

        With several workers each brings those of its own share.
        """
        ones = torch.ones_like(directions[:, :1])
        found = torch.zeros_like(self._gathered)
        found.index_add_(0, labels, torch.cat([directions.detach(), ones], dim=1))
        if self._workers > 1:
            torch.distributed.all_reduce(found)
        self._gathered += found

    def begin_epoch(self, epoch: int) -> None:
        """Take over what was gathered, unless `epoch` only goes on.

        A class of which nothing was gathered keeps its distribution.
        """
        if epoch == int(self._epoch):
            return
        self._epoch.fill_(epoch)
        sums, counts = self._gathered[:, :-1].double(), self._gathered[:, -1:].double()
        means = sums / counts.clamp_min(1)
        lengths = means.norm(dim=1, keepdim=True)
        pulls = concentration(lengths, self._dimensions) * functional.normalize(means, dim=1)
        self._pulls.copy_(torch.where(counts > 0, pulls, self._pulls))
        self._gathered.zero_()

    def loss(
        self, directions: Tensor, labels: Tensor, log_priors: Tensor, temperature: float
    ) -> Tensor:
        """Return the loss of each row.

        Args:
            directions: n x d, of length 1.
            labels: n.
            log_priors: one per class.
            temperature: above 0.
        """
        own = self._pulls.norm(dim=1)
        shifted = (
            own.square() + 2 / temperature * directions.double() @ self._pulls.T + temperature**-2
        ).clamp_min(0)
        ratios = log_constant(shifted.sqrt(), self._dimensions) - log_constant(
            own, self._dimensions
        )
        return functional.cross_entropy(ratios.float() + log_priors, labels, reduction="none")

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it remembers."""
        return {"epoch": self._epoch, "gathered": self._gathered, "pulls": self._pulls}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def concentration(lengths: Tensor, dimensions: int) -> Tensor:
    """Estimate the concentration from the length of the mean direction (Banerjee et al. 2005).

    R (d - R^2) / (1 - R^2), at most 100,000.

    Args:
        lengths: R, from 0 to 1, of any shape.
        dimensions: d.
    """
    lengths = lengths.clamp(0, 1)
    estimate = lengths * (dimensions - lengths**2) / (1 - lengths**2).clamp_min(1e-12)
    return estimate.clamp_max(_LARGEST_CONCENTRATION)


def log_constant(concentrations: Tensor, dimensions: int) -> Tensor:
    """Return log (I_n(k) / k^n), n = d / 2 - 1: log C(k) but for a constant that cancels.

    By the uniform expansion for large orders (Abramowitz and Stegun 9.7.7 and 9.3.9), which is
    smooth at k = 0. Its error falls as n^-5 and is below 2e-6 from 16 dimensions on.

    Args:
        concentrations: k, float64, 0 at least.
        dimensions: d, 16 at least.
    """
    order = dimensions / 2 - 1
    root = (1 + (concentrations / order).square()).sqrt()
    t = 1 / root
    series = (
        1
        + (3 * t - 5 * t**3) / (24 * order)
        + (81 * t**2 - 462 * t**4 + 385 * t**6) / (1152 * order**2)
        + (30375 * t**3 - 369603 * t**5 + 765765 * t**7 - 425425 * t**9) / (414720 * order**3)
        + (
            4465125 * t**4
            - 94121676 * t**6
            + 349922430 * t**8
            - 446185740 * t**10
            + 185910725 * t**12
        )
        / (39813120 * order**4)
    )
    return (
        order * (root - torch.log1p(root) - math.log(order))
        - 0.5 * torch.log(2 * math.pi * order * root)
        + torch.log(series)
    )
