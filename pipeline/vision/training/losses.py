"""Losses on logits and soft targets, one per row.

A target is a row of class shares that sum to 1: one-hot, smoothed, or mixed of two images. Every
loss is a sum of terms of one class each, of which a target takes its shares:

    loss = -sum_c target_c * weight_c * (1 - p_c)^gamma * log p_c

so that class weights and focal factors go with the class that a share is of. At given logits the
loss of a mixture of targets is hence the same mixture of their losses.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.params.choices.training import (
    BalancedSoftmax,
    ClassBalanced,
    CrossEntropy,
    Focal,
    LogitAdjusted,
    Loss,
    Training,
)

RowLosses = Callable[[Tensor, Tensor], Tensor]


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Move the share `smoothing` of each row's target to all classes alike.

    Args:
        targets: n x classes, rows sum to 1.
        smoothing: in [0, 1); 0 returns `targets` itself.
    """
    if smoothing == 0:
        return targets
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def label_aware(class_counts: npt.NDArray[np.integer], head: float, tail: float) -> Tensor:
    """Return targets that are smoothed more, the more images a class has (Zhong et al. 2021).

    With N_1 and N_K the images of the largest and the smallest class, a class of N is smoothed by

        tail + (head - tail) * sin(pi / 2 * (N - N_K) / (N_1 - N_K))

    which the other classes share. (MiSLAS, equation 6 with the concave form of equation 8.)

    Args:
        class_counts: training images per class.
        head: of the largest class, in [0, 1).
        tail: of the smallest class, likewise. Classes that are all alike are smoothed by `tail`.

    Returns:
        classes x classes, float32; rows sum to 1.
    """
    counts = torch.from_numpy(class_counts).double()
    if len(counts) == 1:
        return torch.ones(1, 1)
    above = counts - counts.min()
    rise = torch.sin(math.pi / 2 * above / above.max().clamp_min(1))
    smoothing = (tail + (head - tail) * rise)[:, None]
    own = torch.eye(len(counts), dtype=torch.float64)
    return (own * (1 - smoothing) + (1 - own) * smoothing / (len(counts) - 1)).float()


def target_rows(recipe: Training, class_counts: npt.NDArray[np.integer]) -> Tensor:
    """Return the target of each class, classes x classes, float32; rows sum to 1.

    Args:
        recipe: with `label_smoothing`, and `tail_smoothing` where it goes by the class.
        class_counts: training images per class.
    """
    if recipe.tail_smoothing is not None:
        return label_aware(class_counts, recipe.label_smoothing, recipe.tail_smoothing)
    return smooth(torch.eye(len(class_counts)), recipe.label_smoothing)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, in nats.

    Args:
        logits: n x classes.
        targets: n x classes, rows sum to 1.
    """
    return functional.cross_entropy(logits, targets, reduction="none")


def class_balanced(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of each row, each class by its weight.

    Args:
        logits: n x classes.
        targets: n x classes, rows sum to 1.
        weights: one per class, from `effective_weights`.
    """
    return functional.cross_entropy(logits, targets, weights, reduction="none")


def focal(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return the focal loss of each row (Lin et al. 2017), without their class weight alpha.

    Args:
        logits: n x classes.
        targets: n x classes, rows sum to 1.
        gamma: not negative; 0 is the cross-entropy.
    """
    log_posterior = functional.log_softmax(logits, dim=1)
    # 1 - p, exact near p = 1; kept above 0, where a power below 1 has no finite slope.
    doubt = torch.expm1(log_posterior).neg().clamp_min(torch.finfo(logits.dtype).eps)
    return -(targets * doubt.pow(gamma) * log_posterior).sum(dim=1)


def balanced_softmax(logits: Tensor, targets: Tensor, log_priors: Tensor) -> Tensor:
    """Return the cross-entropy of each row under a softmax weighted by priors (Ren et al. 2020).

    Args:
        logits: n x classes.
        targets: n x classes, rows sum to 1.
        log_priors: one per class, from `log_priors`.
    """
    return cross_entropy(logits + log_priors, targets)


def logit_adjusted(logits: Tensor, targets: Tensor, log_priors: Tensor, tau: float) -> Tensor:
    """Return the cross-entropy of each row of logits + tau * log prior (Menon et al. 2021).

    Args:
        logits: n x classes.
        targets: n x classes, rows sum to 1.
        log_priors: one per class, from `log_priors`.
        tau: not negative; 0 is the cross-entropy, 1 the balanced softmax.
    """
    return cross_entropy(logits + tau * log_priors, targets)


def effective_weights(class_counts: Tensor, beta: float) -> Tensor:
    """Return class weights by effective numbers of images (Cui et al. 2019).

    Args:
        class_counts: images per class; a class without any counts as one of a single image.
        beta: in [0, 1); 0 weighs all classes alike, towards 1 they go as 1 / images.

    Returns:
        (1 - beta) / (1 - beta^images) per class, scaled to sum to the number of classes; float32.
    """
    counts = class_counts.double().clamp_min(1)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * (len(counts) / weights.sum())).float()


def log_priors(class_counts: Tensor) -> Tensor:
    """Return the logarithm of each class's share of the images, float32.

    Args:
        class_counts: images per class; a class without any counts as one of a single image.
    """
    counts = class_counts.double().clamp_min(1)
    return (counts / counts.sum()).log().float()


def build_loss(loss: Loss, class_counts: Tensor) -> RowLosses:
    """Return the function from logits and targets, n x classes each, to n row losses.

    Args:
        loss: which, from params.yaml. When it takes over (`start`) is the caller's matter.
        class_counts: training images per class, on the device of the logits to come.
    """
    match loss:
        case CrossEntropy():
            return cross_entropy
        case ClassBalanced(beta=beta):
            weights = effective_weights(class_counts, beta)
            return lambda logits, targets: class_balanced(logits, targets, weights)
        case Focal(gamma=gamma):
            return lambda logits, targets: focal(logits, targets, gamma)
        case BalancedSoftmax():
            priors = log_priors(class_counts)
            return lambda logits, targets: balanced_softmax(logits, targets, priors)
        case LogitAdjusted(tau=tau):
            priors = log_priors(class_counts)
            return lambda logits, targets: logit_adjusted(logits, targets, priors, tau)
