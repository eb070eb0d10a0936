"""The console's view of a training: one bar, or plain lines where nobody watches."""

import sys
import time

from tqdm import tqdm

_LINE_INTERVAL_S = 10.0


class EpochBar:
    """Shows each epoch's record as it comes."""

    def __init__(self, label: str, epochs: int) -> None:
        self._label, self._epochs = label, epochs
        self._bar = tqdm(total=epochs, desc=label, unit="epoch", disable=not sys.stderr.isatty())
        self._last_line = float("-inf")

    def show(self, record: dict[str, float]) -> None:
        """Move to the record's epoch."""
        epoch = int(record["epoch"])
        figures = {
            "loss": f"{record['train_loss']:.3f}",
            "val_loss": f"{record['val_loss']:.3f}",
            "val_acc": f"{record['val_accuracy']:.3f}",
            "img/s": f"{record['images_per_s']:.0f}",
        }
        if not self._bar.disable:
            self._bar.n = epoch  # set, not added: a restart may go back
            self._bar.set_postfix(figures)
        elif time.monotonic() - self._last_line > _LINE_INTERVAL_S or epoch == self._epochs:
            self._last_line = time.monotonic()
            words = ", ".join(f"{name} {value}" for name, value in figures.items())
            print(f"{self._label}: epoch {epoch}/{self._epochs}, {words}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
