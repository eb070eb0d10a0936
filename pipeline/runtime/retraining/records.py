"""What calls leave for those after them, in the shared storage.

    retraining/NAME/lock/           claims of the lock
    retraining/NAME/history.jsonl   one line for each call that has ended
    retraining/NAME/open.json       the call that has not
    retraining/NAME/known/          the images of each training
    retraining/NAME/held/           the images of the latest call that was held back
    retraining/NAME/accepted.json   what a person has agreed to, until a call has ended with it
    retraining/NAME/outbox/         notices that no webhook has taken yet

NAME is that of the registered model. A call is over when its line stands in the history: what is
written before that is done again by the next call, and what is written after it can be.
"""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.schema import Part
from pipeline.evaluation.retraining.record import Call
from pipeline.runtime.storage.shared import Storage

# The images of a training, one row for each path.
KNOWN = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("arrived", pa.timestamp("ms", "UTC"), nullable=False),  # when a call first saw it
    ]
)

_KEPT = 3  # tables of images; a call needs the latest


class Open(Part):
    """A call that has begun.

    Attributes:
        id: of the call.
        begun: UTC.
        host: where.
        doing: what it was doing when this was written.
    """

    id: str
    begun: datetime
    host: str
    doing: str


class Accepted(Part):
    """What a person has agreed to.

    Attributes:
        keys: of reasons for which a call was held back.
        call: its id.
    """

    keys: tuple[str, ...]
    call: str


class Records:
    """The records of one model's calls."""

    def __init__(self, storage: Storage, model: str) -> None:
        """Take where they lie.

        Args:
            storage: the shared one.
            model: name of the registered model.
        """
        self.storage, self.folder = storage, f"retraining/{model}"

    @property
    def lock(self) -> str:
        """The folder of the lock."""
        return f"{self.folder}/lock"

    def history(self) -> list[Call]:
        """Return the calls that have ended, the oldest first.

        Raises:
            PipelineError: the history is damaged.
        """
        file = self._at("history.jsonl")
        content = self.storage.read(file) or b""
        calls = []
        for number, line in enumerate(content.splitlines(), 1):
            try:
                calls.append(Call.model_validate_json(line))
            except ValidationError as error:
                raise PipelineError(
                    f"{self.storage.uri}/{file} line {number} is no record of a call"
                    f" ({error.errors()[0]['msg']}); remove the line"
                ) from error
        return calls

    def append(self, call: Call) -> None:
        """End a call. Only who holds the lock may do that."""
        before = self.storage.read(self._at("history.jsonl")) or b""
        self.storage.write(
            self._at("history.jsonl"), before + call.model_dump_json().encode() + b"\n"
        )
        for name in ("open.json", "accepted.json") if call.trained else ("open.json",):
            self.storage.remove(self._at(name))

    def open(self) -> Open | None:
        """Return the call that has begun and not ended, if any."""
        content = self.storage.read(self._at("open.json"))
        return Open.model_validate_json(content) if content else None

    def begin(self, call: Open) -> None:
        """Write down what a call is doing."""
        self.storage.write(self._at("open.json"), call.model_dump_json().encode())

    def accepted(self) -> Accepted | None:
        """Return what a person has agreed to, if no training has ended with it."""
        content = self.storage.read(self._at("accepted.json"))
        return Accepted.model_validate_json(content) if content else None

    def accept(self, what: Accepted) -> None:
        """Remember what a person agrees to, until a training has ended with it."""
        self.storage.write(self._at("accepted.json"), what.model_dump_json().encode())

    def forget_accepted(self) -> None:
        """Forget what a person has agreed to."""
        self.storage.remove(self._at("accepted.json"))

    def known(self, name: str) -> pa.Table:
        """Return the images of a training.

        Raises:
            PipelineError: the file is gone or damaged.
        """
        return self._table(f"known/{name}")

    def held(self, call: str) -> pa.Table:
        """Return the images of a call that was held back.

        Raises:
            PipelineError: the file is gone or damaged.
        """
        return self._table(f"held/{call}.parquet")

    def _table(self, name: str) -> pa.Table:
        place = self._at(name)
        with TemporaryDirectory(prefix="convoy-known-") as folder:
            file = Path(folder) / "known.parquet"
            try:
                self.storage.get_file(place, file)
                return pq.read_table(file, schema=KNOWN)
            except (OSError, pa.ArrowException) as error:
                raise PipelineError(
                    f"{self.storage.uri}/{place} is gone or damaged ({error}), so that nothing"
                    " says which images are new; restore it, or begin a new history by removing"
                    f" {self.storage.uri}/{self.folder}"
                ) from error

    def keep_known(self, call: str, images: pa.Table) -> str:
        """Store the images of a training; return the name for `known`."""
        name = f"{call}.parquet"
        self._keep(images, f"known/{name}")
        return name

    def keep_held(self, call: str, images: pa.Table) -> None:
        """Store the images of a call that is held back."""
        self._keep(images, f"held/{call}.parquet")

    def _keep(self, images: pa.Table, name: str) -> None:
        with TemporaryDirectory(prefix="convoy-known-") as folder:
            file = Path(folder) / "known.parquet"
            pq.write_table(images.cast(KNOWN), file, compression="zstd")
            self.storage.put_file(file, self._at(name))

    def tidy(self, latest: str | None) -> None:
        """Remove old tables of images, and those of calls that did not end."""
        for table in self.storage.names(self._at("held"))[:-_KEPT]:
            self.storage.remove(table)
        tables = self.storage.names(self._at("known"))
        kept = {self._at(f"known/{latest}"), *tables[-_KEPT:]}
        for table in tables:
            if table not in kept:
                self.storage.remove(table)

    def post(self, call: str, notice: bytes) -> None:
        """Leave a notice to be delivered, once the call has ended."""
        self.storage.write(self._at(f"outbox/{call}.json"), notice)

    def waiting(self) -> dict[str, bytes]:
        """Return the notices that are not delivered, by call, the oldest first."""
        found = {name: self.storage.read(name) for name in self.storage.names(self._at("outbox"))}
        return {
            name.rpartition("/")[2].removesuffix(".json"): content
            for name, content in found.items()
            if content is not None
        }

    def delivered(self, call: str) -> None:
        """Forget a notice."""
        self.storage.remove(self._at(f"outbox/{call}.json"))

    def _at(self, name: str) -> str:
        return f"{self.folder}/{name}"
