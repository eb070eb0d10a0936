"""The console's view of a training: one bar, or plain lines where nobody watches."""

import os
import sys
import time
from typing import Any

from tqdm import tqdm

from pipeline.progress import RELAYED, relayed
from pipeline.vision.training.training_state import EpochProgress, Record

_LINE_INTERVAL_S = 10.0
_RELAY_INTERVAL_S = 1.0


class ProgressBar:
    """Shows how far a training is, its speed and the time left."""

    def __init__(self, label: str, epochs: int, images: int) -> None:
        """Draw the empty bar.

        Args:
            label: in front of it.
            epochs: of the training, at most.
            images: of one epoch.
        """
        self._label, self._epochs, self._images = label, epochs, images
        self._bar: tqdm[Any] = tqdm(
            total=epochs * images,
            desc=label,
            unit="img",
            unit_scale=True,
            smoothing=0.1,
            disable=not sys.stderr.isatty(),
        )
        self._bar.set_postfix_str("workers are starting")
        self._started, self._recorded = False, 0
        self._figures: dict[str, str] = {}
        self._last_line_s = self._relayed_s = float("-inf")
        self._begin_s, self._first = 0.0, 0

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.write(f"{self._label}: {text}", file=sys.stderr)

    def record(self, record: Record) -> None:
        """Move to the end of the record's epoch, and show its figures."""
        epoch = int(record["epoch"])
        if epoch <= self._recorded:
            return  # the event log is read again when the workers are restarted
        self._recorded = epoch
        self._figures = {
            "loss": f"{record['train_loss']:.3f}",
            "val_loss": f"{record['val_loss']:.3f}",
            "val_acc": f"{record['val_accuracy']:.3f}",
        }
        self._move(epoch * self._images)
        late = time.monotonic() - self._last_line_s > _LINE_INTERVAL_S
        if self._bar.disable and (late or epoch == self._epochs):
            self._last_line_s = time.monotonic()
            words = ", ".join(f"{name} {value}" for name, value in self._figures.items())
            speed = f"{record['images_per_s']:.0f} img/s"
            line = f"{self._label}: epoch {epoch}/{self._epochs}, {words}, {speed}"
            self._bar.write(line, file=sys.stderr)  # by turns with other threads

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Move within the running epoch."""
        if epoch_progress.loss is not None:
            self._figures |= {"loss": f"{epoch_progress.loss:.3f}"}
        self._move((epoch_progress.epoch - 1) * self._images + epoch_progress.images)

    def _move(self, images: int) -> None:
        if self._bar.disable:
            self._relay(images)
            return
        if not self._started:
            # The clock starts with the first news: what was trained by an earlier call, and the
            # time until processes had started, say nothing about speed.
            self._started = True
            self._bar.reset()
            self._bar.initial = self._bar.n = images
        self._bar.set_postfix(self._figures, refresh=False)
        self._bar.update(images - self._bar.n)  # backwards after a restart

    def _relay(self, images: int) -> None:
        """Print the bar as a line, where a log is shown elsewhere."""
        now_s = time.monotonic()
        if RELAYED not in os.environ or now_s < self._relayed_s + _RELAY_INTERVAL_S:
            return
        if not self._started:
            self._started, self._begin_s, self._first = True, now_s, images
        self._relayed_s = now_s
        text = tqdm.format_meter(
            images,
            self._epochs * self._images,
            now_s - self._begin_s,
            initial=self._first,
            prefix=self._label,
            unit="img",
            unit_scale=True,
            ascii=True,
            postfix=", ".join(f"{name}={value}" for name, value in self._figures.items()),
        )
        print(relayed(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
