"""How often each class is a target, as the sampler and mixing deliver it.

Losses that correct for priors need those of the batches that they see. Images on disk may be
sampled evenly, and partners of other classes even out what is left.
"""

import numpy as np
import numpy.typing as npt

from pipeline.params.choices.training import Training
from pipeline.vision.training.batches import sampler_at
from pipeline.vision.training.mixing import draw_boxes
from pipeline.vision.training.sampling import SAMPLED_SHARES

# Batches and boxes over which expectations are taken: errors below 1 %.
_BATCHES = 500
_BOXES = 20_000

Counts = npt.NDArray[np.float64]


def target_counts(
    class_counts: npt.NDArray[np.integer], recipe: Training, epoch: int, shape: tuple[int, int]
) -> Counts:
    """Return how many images' worth of targets each class is expected to have in an epoch.

    Args:
        class_counts: training images per class.
        recipe: with sampler and mixing.
        epoch: from 0.
        shape: height and width of the images in pixels, from which cutmix cuts.

    Returns:
        One number per class; they sum to the images. Without sampler and mixing, `class_counts`.
    """
    images = class_counts.sum()
    drawn = SAMPLED_SHARES[sampler_at(recipe, epoch)](class_counts)
    counts: Counts = images * drawn / drawn.sum()
    if recipe.mix_partners == "any" or recipe.mixup_alpha == recipe.cutmix_alpha == 0:
        return counts
    own = _own_share(recipe, shape)
    partners = other_class_shares(counts / images, min(recipe.global_batch_size, images))
    mixed: Counts = own * counts + (1 - own) * images * partners
    return mixed


def other_class_shares(shares: Counts, batch_size: int) -> Counts:
    """Return the classes' expected shares among partners that `draw_other_classes` draws.

    An image of class c is the partner of each image of another class k with probability 1 / (B -
    n_k), n_k being the images of that class in the batch of B. So its class has

        share_c * (E sum_{k != c} n_k / (B - n_k) + P(the whole batch is of class c))

    over the other B - 1 images of the batch, which are drawn here, the same ones for all c.

    Args:
        shares: of the classes among the images; sum to 1.
        batch_size: B, 1 at least.
    """
    rng = np.random.default_rng(0)
    others = rng.multinomial(batch_size - 1, shares / shares.sum(), _BATCHES)
    odds = others / (batch_size - others)
    chosen = odds.sum(axis=1, keepdims=True) - odds
    result = shares * (chosen.mean(axis=0) + shares ** (batch_size - 1))
    normalised: Counts = result / result.sum()
    return normalised


def _own_share(recipe: Training, shape: tuple[int, int]) -> float:
    """Return the expected weight of an image's own target in a mixture."""
    weights = []
    if recipe.mixup_alpha > 0:
        weights.append(0.5)  # the mean of Beta(alpha, alpha)
    if recipe.cutmix_alpha > 0:  # boxes lose what lies beyond the border
        rng = np.random.default_rng(0)
        top, left, bottom, right = draw_boxes(_BOXES, recipe.cutmix_alpha, shape, rng).T
        pasted = (bottom - top) * (right - left) / (shape[0] * shape[1])
        weights.append(1 - float(pasted.mean()))
    return sum(weights) / len(weights)
