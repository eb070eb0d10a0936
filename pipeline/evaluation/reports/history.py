"""The history of a training, as its stage writes it."""

from pydantic import ConfigDict, Field, RootModel

from pipeline.evaluation.reports.schema import Part


class Epoch(Part):
    """One epoch of a training.

    Attributes:
        epoch: from 1.
        train_loss, val_loss: nats.
        val_accuracy: in [0, 1].
        kept: whether the trained model is what it was after this epoch.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    kept: bool


class History(RootModel[tuple[Epoch, ...]]):
    """history/<model>.json: the epochs of a training, at least one."""

    model_config = ConfigDict(frozen=True)
    root: tuple[Epoch, ...] = Field(min_length=1)
