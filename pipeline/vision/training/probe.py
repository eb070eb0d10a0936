"""A new head above pretrained features: logistic regression on what the extractor makes of some.

Fine-tuning from such a linear probe spoils less of what was learnt than from a random head (Kumar
et al. 2022). It also needs no scale of its own: features of SqueezeNet are a hundred times larger
than those of a small residual network, so no fixed start suits both.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.vision.training.losses import RowLosses
from pipeline.vision.training.sources import Rows

# Images that a probe is fitted to: enough to start from, and as much work as 1,024 / 3 images of
# training. Of each class there are some, whatever its share.
_IMAGES = 1024
_PER_CLASS = 8
_PENALTY = 0.1  # on squared weights of standardised features, beside the mean loss in nats
_ITERATIONS = 50
_MOST_ITERATIONS = 1000  # of a probe that is solved to the end
_SMALLEST_SCALE = 0.01  # of the features' own, for those that hardly vary


def probe_rows(labels: npt.NDArray[np.integer], seed: int) -> Rows:
    """Draw the rows that a probe is fitted to, in order."""
    rng = np.random.default_rng((seed, 0))
    mixed = rng.permutation(len(labels))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    first = np.searchsorted(labels[by_class], labels[by_class], side="left")
    some = by_class[np.arange(len(labels)) - first < _PER_CLASS]
    return np.union1d(mixed[:_IMAGES], some)


def penalty_at(epoch: int) -> float:
    """Return the penalty of an epoch (from 0) of a probe: 1, then two to each decade below."""
    return float(10 ** (-epoch / 2))


def fit_probe(
    features: Tensor,
    targets: Tensor,
    losses: RowLosses,
    penalty: float = _PENALTY,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise the mean loss of a linear layer, penalised by the squares of its weights.

    Minimised is mean(loss) + penalty / 2 * sum(w^2), w being the weights of standardised features.
    scikit-learn's LogisticRegression has the same minimum with C = 1 / (n * penalty).

    Args:
        features: n x d floats; they are standardised, and the result is for them as they are.
        targets: n x classes, rows sum to 1.
        losses: of logits and targets, which the training begins with.
        penalty: on the squares.
        start: weights and biases to begin from, and then to go on to the end; by default some
            iterations from zeros.

    Returns:
        Weights (classes x d) and biases (classes) of the layer.
    """
    # The end of a weakly penalised problem lies beyond what single precision can tell apart.
    x, classes = features.double() if start else features.float(), targets.shape[1]
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = scale.clamp_min(_SMALLEST_SCALE * scale.square().mean().sqrt()).clamp_min(1e-12)
    x = (x - mean) / scale
    weights, biases = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    if start:
        before = start[0].double()
        weights, biases = before * scale, start[1] + before @ mean
    weights, biases = (values.detach().requires_grad_() for values in (weights, biases))
    iterations = _MOST_ITERATIONS if start else _ITERATIONS
    optimizer = torch.optim.LBFGS(
        [weights, biases], max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = losses(functional.linear(x, weights, biases), targets).mean()
        value = value + penalty / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = weights / scale
        return found.float(), (biases - found @ mean).float()
