"""What a training saw, image by image."""

from dataclasses import dataclass

from pipeline.evaluation.plots.levels import Image


@dataclass(frozen=True)
class Partner:
    """The image that another one was mixed with.

    Attributes:
        image: as it was mixed, augmented if images are.
        label: name of its class.
        how: 'mixup' or 'cutmix'.
        weight: of the other image; this one has the rest to 1.
    """

    image: Image
    label: str
    how: str
    weight: float


@dataclass(frozen=True)
class TrainingExample:
    """An image of a training batch, and what became of it.

    Attributes:
        image: as it was packed: height x width x channels, uint8 or uint16.
        label: name of its class.
        augmented: after augmentation; None without.
        partner: None without mixing.
        trained_on: what the network got, before it was normalised.
        target: shares of the classes in its soft label, the largest first; those of 0 left out.
    """

    image: Image
    label: str
    augmented: Image | None
    partner: Partner | None
    trained_on: Image
    target: tuple[tuple[str, float], ...]
