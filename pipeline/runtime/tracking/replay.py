"""Carries out at the tracking store what spools say: in order, and as often as need be.

Everything is safe to repeat. A run is found again by the name of its spool, metrics carry the time
at which they were written (MLflow keeps equal ones once), and params, tags and data sets are what
they are. So whatever became of a request that was not answered, it is sent again.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import Entry, Position, Spool, held, left_behind
from pipeline.runtime.tracking.stale_runs import SPOOL_TAG, mend_orphans
from pipeline.runtime.tracking.store import (
    client_of,
    experiment_id,
    lasting_address,
    shown,
    tracking_uri,
    without_secrets,
)

RECORDS_TAG = "convoy.records"
_PER_CALL = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits
_ACTIVE_RUNS = 1  # mlflow.entities.ViewType.ACTIVE_ONLY
# What a store answers to a request that it will never take.
_REFUSALS = {
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "ENDPOINT_NOT_FOUND",  # an older server
    "NOT_IMPLEMENTED",
}
_DATABASE_REFUSAL = "BAD_REQUEST"  # also said where two processes write the same row: not at once
_DATABASE_TRIES = 3

Say = Callable[[str], None]


class StoreAwayError(Exception):
    """The store did not take a record now; it may later.

    Attributes:
        answers: whether it answers other requests.
    """

    def __init__(self, reason: str, answers: bool = False) -> None:
        super().__init__(" ".join(reason.split()))
        self.answers = answers


class RunGoneError(Exception):
    """Somebody deleted the run at the store."""


class _RefusedError(Exception):
    """The store will never take what was sent."""


@dataclass(frozen=True)
class Count:
    """Metric values of a run: written here, and found at the store."""

    written: int
    stored: int

    def __str__(self) -> str:
        return f"{self.stored} of {self.written}"


@dataclass(frozen=True)
class Settled:
    """What became of a spool that an earlier process left.

    Attributes:
        name: of the spool.
        run_id: of its run; None if there is none.
        delivered: number of records.
        count: of all metric values.
    """

    name: str
    run_id: str | None
    delivered: int
    count: Count


class Delivery:
    """A connection to the store that takes what spools hold."""

    def __init__(self, tracking: Tracking, say: Say) -> None:
        """Take in the store, and who tells the user what is refused. Nothing is connected yet."""
        self.uri = tracking_uri(tracking)
        self.store = lasting_address(self.uri)
        self._tracking = tracking
        self._say = say
        self._connected: Any = None
        self._experiments: dict[str, str] = {}
        self._told: set[tuple[str | None, str]] = set()
        self._refusals: tuple[tuple[str | None, int] | None, int] = (None, 0)

    def deliver(
        self, spool: Spool, position: Position, progress: Callable[[Position], None]
    ) -> Position:
        """Carry out all entries that the store does not have.

        Args:
            spool: locked by this process.
            position: how far the store has it.
            progress: called after each step with the position, which it keeps.

        Returns:
            The last position.

        Raises:
            StoreAwayError: the store does not answer, or answers that it cannot; the position
                that `progress` got last is true.
        """
        start = None
        while start != position.offset:  # once more where a run is made anew, from its beginning
            start = position.offset
            for entries, offset in _grouped(spool.entries(start)):
                with self._reached():
                    self._client()
                position = self._carry_out(spool, position, entries, offset)
                progress(position)
                if position.offset != offset:
                    break
        return position

    def count(self, spool: Spool, position: Position) -> Count:
        """Count the run's metric values, here and there, and tag the run with what is found.

        A request that the store took very late, after it was sent again, may have left a second,
        empty run or an old status: both are put right.

        Raises:
            StoreAwayError: as in `deliver`.
        """
        written = spool.values()
        nothing = Count(len(written), 0)
        if position.gone or position.run_id is None:
            return nothing
        try:
            with self._judged(position):
                count = self._count(position.run_id, written)
                self._put_right(spool, position.run_id)
        except RunGoneError:
            return nothing
        except _RefusedError as refusal:
            raise StoreAwayError(str(refusal), answers=True) from refusal
        return count

    def _count(self, run_id: str, written: set[tuple[str, int]]) -> Count:
        client = self._client()
        names = sorted({name for name, _ in written})
        stored = sum(len(client.get_metric_history(run_id, name)) for name in names)
        count = Count(len(written), stored)
        client.set_tag(run_id, RECORDS_TAG, str(count))
        return count

    def _put_right(self, spool: Spool, run_id: str) -> None:
        client = self._client()
        for double in self._runs_of(spool):
            if double.info.run_id != run_id and not double.data.metrics:
                client.delete_run(double.info.run_id)
        last = [entry for entry, _ in spool.entries() if entry["act"] in ("end", "resume")][-1:]
        if last and last[0]["act"] == "end":
            status = last[0]["status"]
            if client.get_run(run_id).info.status != status:
                client.set_terminated(run_id, status, last[0]["time_ms"])

    def settle(
        self, spool: Spool, position: Position, progress: Callable[[Position], None]
    ) -> Count:
        """Deliver all, count, and where something is missing deliver once more from the start.

        A store that was restored from a backup lacks what it once had.

        Raises:
            StoreAwayError: as in `deliver`.
        """
        position = self.deliver(spool, position, progress)
        count = self.count(spool, position)
        if count.stored < count.written - position.refused and not position.gone:
            again = replace(position, offset=0, refused=0)
            position = self.deliver(spool, again, progress)
            count = self.count(spool, position)
        return count

    def mend(self, spools: Path, own: str) -> list[str]:
        """End the runs of processes that are gone; see `mend_orphans`.

        Args:
            spools: the folder of all spools; runs that another process goes on with are spared.
            own: the name of this process's spool.

        Raises:
            StoreAwayError: as in `deliver`.
        """
        with self._reached():
            experiment = self._experiment(self._tracking.experiment)
            return mend_orphans(self._client(), experiment, {own, *held(spools)})

    def settle_left(self, spools: Path) -> Iterator[Settled]:
        """Deliver what processes that are gone have left for this store, one spool after another.

        A spool whose process did not end its run ends as KILLED; its training may still go on
        later. What can never be added to is deleted.

        Raises:
            StoreAwayError: as in `deliver`; spools that the store could take are delivered first.
        """
        failure = None
        for spool in left_behind(spools):
            if spool.store not in ("", self.store):
                continue
            try:
                settled = self._settle_one(spool)
            except StoreAwayError as error:
                if not error.answers:
                    raise
                failure = error
                continue
            if settled:
                yield settled
        if failure:
            raise failure

    def _settle_one(self, spool: Spool) -> Settled | None:
        """Deliver a spool that an earlier process left; None if the store had all of it."""
        if spool.store and spool.status is None:
            spool.append({"act": "end", "status": "KILLED", "time_ms": spool.last_ms})
        settled, waiting = None, spool.waiting
        if waiting:
            count = self.settle(spool, spool.position(), spool.remember)
            settled = Settled(spool.id, spool.position().run_id, waiting, count)
        if spool.over or not spool.store:
            spool.delete()
        return settled

    def _carry_out(
        self, spool: Spool, position: Position, entries: Sequence[Entry], offset: int
    ) -> Position:
        """Carry out one entry, or several of metrics; return the position after them."""
        act = str(entries[0]["act"])
        done = replace(position, offset=offset)
        try:
            match act:
                case "create":
                    done = replace(done, run_id=position.run_id or self._create(spool, entries[0]))
                    # Not with the run: one that is refused must not cost the others, or the run.
                    self._log(done, "tags", _tags([{"act": "tags", "values": entries[0]["tags"]}]))
                case _ if act == "damaged" or position.run_id is None:
                    self._tell(position, "damage", f"lacks damaged lines of {spool.path}")
                case "resume":
                    return self._resume(position, entries[0], offset)
                case _ if position.gone:
                    return done
                case "metrics" | "tags":
                    refused = self._log(position, "metrics", _metrics(entries))
                    self._log(position, "tags", _tags(entries))
                    return replace(done, refused=position.refused + refused)
                case "params":
                    self._log(position, "params", _params(entries[0]))
                case "datasets":
                    self._log_datasets(position, entries[0]["items"])
                case "end":
                    self._end(position, entries[0])
                case _:
                    raise AssertionError(act)
        except RunGoneError:
            self._tell(position, "gone", "was deleted there; its further records are dropped")
            return replace(done, gone=True)
        return done

    def _create(self, spool: Spool, entry: Entry) -> str:
        """Make the run, unless an earlier request did."""
        with self._reached():
            client = self._client()
            found = self._runs_of(spool)
            if found:
                return min(str(run.info.run_id) for run in found)
            run = client.create_run(
                self._experiment(entry["experiment"]),
                start_time=entry["time_ms"],
                tags={SPOOL_TAG: spool.id},
                run_name=entry["name"],
            )
            return str(run.info.run_id)

    def _runs_of(self, spool: Spool) -> list[Any]:
        """Return the runs that were made for a spool, but for deleted ones."""
        query = f"tags.`{SPOOL_TAG}` = '{spool.id}'"
        where = self._experiment(spool.experiment)
        return list(self._client().search_runs([where], query, run_view_type=_ACTIVE_RUNS))

    def _resume(self, position: Position, entry: Entry, offset: int) -> Position:
        """Set the run going again; one that was deleted is made anew, with all that it held."""
        anew = Position(position.store)
        if position.gone:
            return anew
        try:
            self._log(position, "tags", _tags([entry]))
            with self._judged(position):
                self._client().update_run(position.run_id, status="RUNNING")
        except RunGoneError:
            return anew
        return replace(position, offset=offset)

    def _log(self, position: Position, kind: str, items: Sequence[Any]) -> int:
        """Log values, many per call; return the number of those that are refused for good."""
        size = _PER_CALL[kind]
        pieces = [items[start : start + size] for start in range(0, len(items), size)]
        return sum(self._log_piece(position, kind, piece) for piece in pieces)

    def _log_piece(self, position: Position, kind: str, piece: Sequence[Any]) -> int:
        try:
            with self._judged(position):
                self._client().log_batch(position.run_id, **{kind: piece}, synchronous=True)
        except _RefusedError as refusal:
            if len(piece) > 1:  # one of them is to blame
                half = len(piece) // 2
                parts = (piece[:half], piece[half:])
                return sum(self._log_piece(position, kind, part) for part in parts)
            self._tell(position, kind, f"goes without {kind} such as {piece[0].key}: {refusal}")
            return 1
        return 0

    def _log_datasets(self, position: Position, items: Sequence[dict[str, str]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=item["name"],
                    digest=item["digest"],
                    source_type="local",
                    source=json.dumps({"uri": item["source"]}),
                    profile=item["profile"],
                ),
                [InputTag("mlflow.data.context", item["context"])],
            )
            for item in items
        ]
        try:
            with self._judged(position):
                self._client().log_inputs(position.run_id, datasets=inputs)
        except _RefusedError as refusal:
            self._tell(position, "datasets", f"goes without its data sets: {refusal}")

    def _end(self, position: Position, entry: Entry) -> None:
        try:
            with self._judged(position):
                self._client().set_terminated(
                    position.run_id, entry["status"], end_time=entry["time_ms"]
                )
        except _RefusedError as refusal:
            self._tell(position, "end", f"does not end as {entry['status']}: {refusal}")

    def _client(self) -> Any:
        """Return the connection, made by the first call: MLflow's import takes 2 s."""
        if self._connected is None:
            # A request that MLflow repeats by itself might make two runs; pauses are made here.
            os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
            client = client_of(self.uri)
            # What it would print of a database's errors, with their traces, is told in one line.
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            self._connected = client
        return self._connected

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = experiment_id(self._client(), self.uri, name)
        return self._experiments[name]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what is raised by a store that is away into `StoreAwayError`."""
        try:
            yield
        except (StoreAwayError, RunGoneError):
            raise
        except Exception as error:  # also a package that is missing, or what a database raises
            raise StoreAwayError(without_secrets(_cause(error), self.uri)) from error

    @contextmanager
    def _judged(self, position: Position) -> Iterator[None]:
        """Tell apart what fails: this very request, the run, or the store."""
        try:
            yield
        except Exception as error:
            self._ask_for(position)
            reason = without_secrets(_cause(error), self.uri)
            code = getattr(error, "error_code", None)
            if code in _REFUSALS or (code == _DATABASE_REFUSAL and self._insists(position)):
                raise _RefusedError(reason) from error
            raise StoreAwayError(reason, answers=True) from error

    def _insists(self, position: Position) -> bool:
        """Whether a database has refused what comes at this position again and again."""
        key = (position.run_id, position.offset)
        last_key, tries = self._refusals
        self._refusals = (key, tries + 1 if key == last_key else 1)
        return self._refusals[1] >= _DATABASE_TRIES

    def _ask_for(self, position: Position) -> None:
        """Make sure that the store answers and knows the run."""
        from mlflow.exceptions import MlflowException

        with self._reached():
            try:
                run = self._client().get_run(position.run_id)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise RunGoneError from error
                raise
        if run.info.lifecycle_stage == "deleted":
            raise RunGoneError

    def _tell(self, position: Position, what: str, words: str) -> None:
        """Tell the user, once for each run and kind of trouble."""
        if (position.run_id, what) not in self._told:
            self._told.add((position.run_id, what))
            self._say(f"the run {position.run_id} at {shown(self.uri)} {words}")


def _grouped(entries: Iterable[tuple[Entry, int]]) -> Iterator[tuple[list[Entry], int]]:
    """Yield entries one by one, those of metrics and tags together as far as one call may go."""
    group: list[Entry] = []
    values, end = 0, 0
    for entry, offset in entries:
        mixes = entry["act"] in ("metrics", "tags")
        size = len(entry["values"]) if mixes else 0
        if group and not (mixes and values + size <= _PER_CALL["metrics"]):
            yield group, end
            group, values = [], 0
        end = offset
        if mixes:
            group.append(entry)
            values += size
        else:
            yield [entry], offset
    if group:
        yield group, end


def _metrics(entries: Sequence[Entry]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, value, entry["time_ms"], entry["step"])
        for entry in entries
        if entry["act"] == "metrics"
        for name, value in entry["values"].items()
    ]


def _tags(entries: Sequence[Entry]) -> list[Any]:
    """Return each tag with its last value."""
    from mlflow.entities import RunTag

    values: dict[str, str] = {}
    for entry in entries:
        values |= entry["values"] if entry["act"] != "metrics" else {}
    return [RunTag(name, value) for name, value in values.items()]


def _params(entry: Entry) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, value) for name, value in entry["values"].items()]


def _cause(error: BaseException) -> str:
    """Return what the innermost error says: the others wrap it in addresses and advice."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__
