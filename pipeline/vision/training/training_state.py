"""How far a training is, and whether it is still getting better."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.params.choices.training import EarlyStopping
from pipeline.vision.training.checkpoint import read_values

Record = dict[str, float]


@dataclass(frozen=True)
class EpochProgress:
    """How far the running epoch is.

    Attributes:
        epoch: from 1.
        images: trained on so far in this epoch, over all workers.
        of_images: of the whole epoch.
        loss: mean training loss of the latest steps; None before the first.
    """

    epoch: int
    images: int
    of_images: int
    loss: float | None


@dataclass
class TrainingState:
    """How far a training is.

    Attributes:
        epochs_done: whole epochs.
        steps_done: global batches of the running epoch.
        seconds: that its training took so far.
        best_epoch: the epoch (from 1) whose weights are kept, 0 before the first. The last one,
            if that is to be kept.
        best_score: its metric; a loss counts negative, so that more is always better.
        best_loss: its validation loss, which decides between equal scores.
        score_to_beat: the score at the last gain of more than `min_delta`, by which the next is
            measured; many small gains add up to one.
        epochs_without_gain: since then.
        history: one record per epoch.
    """

    epochs_done: int = 0
    steps_done: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = -math.inf
    best_loss: float = field(default=math.inf, kw_only=True)
    score_to_beat: float = -math.inf
    epochs_without_gain: int = 0
    history: list[Record] = field(default_factory=list)

    def forget_best(self) -> None:
        """Forget the best so far: from now on something else is learnt.

        A loss or sampler that takes over late may cost validation loss and still be what was
        asked for; weights from before it are not.
        """
        self.best_score = self.score_to_beat = -math.inf
        self.best_loss = math.inf
        self.epochs_without_gain = 0

    def end_epoch(self, record: Record, stopping: EarlyStopping, settled: bool) -> bool:
        """Record an epoch and return whether it is to be kept: the best so far, or the last.

        Args:
            record: of the epoch.
            stopping: what counts as better, and which epoch is kept.
            settled: whether the training has taken its last form. Before (a sampler is still to
                come, or layers to be unfrozen), patience does not run out.
        """
        score = record[f"val_{stopping.metric}"] * (-1 if stopping.metric == "loss" else 1)
        self.epochs_done, self.steps_done, self.seconds = self.epochs_done + 1, 0, 0.0
        self.history.append(record)
        self.epochs_without_gain += 1
        if score - self.score_to_beat > stopping.min_delta:
            self.score_to_beat, self.epochs_without_gain = score, 0
        if not settled:
            self.epochs_without_gain = 0
        loss = record["val_loss"]
        better = (score, -loss) > (self.best_score, -self.best_loss)
        if stopping.keep == "best" and not better:
            return False
        self.best_score, self.best_loss, self.best_epoch = score, loss, self.epochs_done
        return True

    def values(self) -> dict[str, Any]:
        """Return JSON values that `read_training_state` understands."""
        return asdict(self)


def read_training_state(folder: Path) -> TrainingState:
    """Read how far the training that wrote the checkpoint `folder` was."""
    return TrainingState(**read_values(folder))
