"""What a training shows when something is wrong that stops nothing: one line each."""

import math

from pipeline.vision.training.training_state import Record

# nats above a guess among all classes, from which a first loss is worth a word.
_LOUD = 2.0


def loud_start(first_loss: float, classes: int, head_loaded: bool) -> str | None:
    """Say so if the first loss is far above that of a guess, log(classes).

    Args:
        first_loss: of the first batch, before anything was learnt; nats.
        classes: how many.
        head_loaded: whether the head came with the weights.
    """
    even = math.log(classes)
    if first_loss < even + _LOUD:
        return None
    cause = (
        "the loaded head answers confidently and wrongly: the weights may be for other classes, for"
        " the same ones in another order, or for another normalization"
        if head_loaded
        else "the network is loud from the start: lower optimizer.lr or lengthen"
        " schedule.warmup_epochs, or check normalization"
    )
    return f"warning: the first loss is {first_loss:.1f}, that of a guess {even:.1f}; {cause}"


def one_class(kept: Record, classes: int) -> str | None:
    """Say so if the kept epoch predicts the same class for every validation image.

    Args:
        kept: its record.
        classes: how many there are among the validation images.
    """
    if classes == 1 or kept["val_predicted_classes"] > 1:
        return None
    return (
        f"warning: epoch {kept['epoch']:.0f}, which is kept, predicts one class for all validation"
        " images; likely causes: too few epochs, an optimizer.lr that is too high (convoy lr-find"
        " shows it) or too low, or one class that outnumbers the others (sampler: balanced)"
    )
