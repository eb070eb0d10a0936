"""Carries out at the tracking store what journals say, as often as need be.

Everything is safe to repeat. A run is found again by the id of its journal, metrics carry their
time and step (MLflow keeps equal ones once), and params, tags, data sets and checkpoints are what
they are. So a request that was not answered is sent again.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar

from pipeline.params import Tracking
from pipeline.runtime.tracking import checkpoints, store
from pipeline.runtime.tracking.journal import Entry, Journal, unsettled
from pipeline.runtime.tracking.stale_runs import FOLDER_TAG, JOURNAL_TAG, end_stale_runs, folder_id

RECORDS_TAG = "convoy.records"
_CHUNK = 1000  # entries after which the next try goes on
_PER_CALL = {"params": 100, "metrics": 1000, "tags": 100}  # MLflow's limits
# Error codes with which a store says that it will never take a request; some are an older server's.
_REFUSALS = ["INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"]
_DATABASE_REFUSAL = "BAD_REQUEST"  # also where two processes write the same row: try again
_REFUSALS += ["ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", _DATABASE_REFUSAL]
_TRIES, _PAUSE_S = 3, 0.5

T = TypeVar("T")


class StoreAwayError(Exception):
    """The store does not answer."""


class StoreBusyError(StoreAwayError):
    """It answers, and does not take a record now."""


class _RefusedError(StoreBusyError):
    """It will never take this record."""


class _DeletedError(Exception):
    """The run was deleted there."""


class Replay:
    """A connection to the store; it last answered at `answered_s` (`time.monotonic`)."""

    def __init__(self, tracking: Tracking, say: Callable[[str], None]) -> None:
        """Take the store, and a function that shows a message. Nothing is connected yet."""
        self.uri, self.answered_s = store.tracking_uri(tracking), time.monotonic()
        self._experiment, self._say = tracking.experiment, say
        self._client: Any = None
        self._said = set[str]()

    def deliver(self, journal: Journal) -> None:
        """Lock a journal and carry out its entries that this process has not delivered.

        Raises:
            StoreAwayError: the store does not answer or answers that it cannot, or another process
                has the lock.
        """
        if not journal.acquire():
            raise StoreAwayError("another process is delivering them")
        number, ended = len(journal.entries), journal.ended
        try:
            while left := journal.entries[journal.delivered : number - ended]:
                self._send(journal, left[:_CHUNK])
                journal.delivered += len(left[:_CHUNK])
            if ended:
                self._end(journal)
            self._upload(journal)  # the last: files that cannot be stored hold up no figures
        except _DeletedError:
            self._say_once(journal, "was deleted there; its further records are dropped")
        journal.delivered = number

    def settle_left(self, journals: Path) -> Iterator[str]:
        """Deliver what processes that are gone have left for this store; yield a line for each.

        A run that was not ended ends as KILLED; its training may still go on later. So does a run
        whose journal is lost, see `stale_runs`.

        Raises:
            StoreAwayError: as in `deliver`; journals that the store could take are delivered.
        """
        failure = None
        for journal, left in unsettled(journals):
            if left and not journal.start["store"]:
                if journal.entries:
                    self._say(f"{journal.path} is damaged: {journal.waiting} records are lost")
                journal.retire()
            if not left or journal.start["store"] != store.lasting_address(self.uri):
                continue
            if not journal.ended:
                last_ms = max(entry.get("time_ms", 0) for entry in journal.entries)
                journal.append({"act": "end", "status": "KILLED", "time_ms": last_ms})
            waiting = journal.waiting
            try:
                self.deliver(journal)
            except StoreBusyError as error:
                failure = error
                continue
            journal.retire()
            has = "is deleted" if journal.stored is None else f"has {journal.count} values"
            run = f"run {journal.run_id}, which {has}"
            yield f"{waiting} records of {journal.id} delivered to {run}"
        where = self._ask(partial(store.experiment_id, uri=self.uri, name=self._experiment))
        for run_id in self._ask(partial(end_stale_runs, experiment=where, journals=journals)):
            yield f"run {run_id} of a process that is gone ends as KILLED"
        if failure:
            raise failure

    def _send(self, journal: Journal, entries: Sequence[Entry]) -> None:
        """Log what entries hold, many values per call; of params and tags the last ones."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        starts = [entry for entry in entries if entry["act"] == "start"]
        if starts or journal.run_id is None:
            self._ask(partial(self._find_run, journal=journal))
        run_id, kinds = journal.run_id, {"params": Param, "metrics": Metric, "tags": RunTag}
        for act, kind in kinds.items():
            found: dict[Any, Any] = {}
            for entry in entries:
                values = entry["values"] if entry["act"] == act else entry.get(act, {})
                place = (
                    (entry["time_ms"], entry["step"]) if act == entry["act"] == "metrics" else ()
                )
                found |= {(name, place): kind(name, v, *place) for name, v in values.items()}
            items, limit = list(found.values()), _PER_CALL[act]
            for first in range(0, len(items), limit):
                self._log(journal, act, items[first : first + limit])
        inputs = [
            DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])
            for entry in starts
            for context, dataset in entry["datasets"].items()
        ]
        if starts:
            self._offer(journal, "data sets", methodcaller("log_inputs", run_id, inputs))
            self._ask(methodcaller("update_run", run_id, "RUNNING"), journal)

    def _log(self, journal: Journal, act: str, items: Sequence[Any]) -> None:
        """Log values in one call, or else those that the store does not refuse."""
        request = methodcaller("log_batch", journal.run_id, **{act: items}, synchronous=True)
        try:
            self._ask(request, journal, _TRIES if len(items) == 1 else 1)
        except _RefusedError as refusal:
            if len(items) == 1:
                example = f" {items[0].key}: {refusal}"
                self._say_once(journal, f"goes without {act} such as", example)
                return
            middle = len(items) // 2
            self._log(journal, act, items[:middle])
            self._log(journal, act, items[middle:])

    def _end(self, journal: Journal) -> None:
        """Count the metrics and complete the run."""
        self._ask(partial(self._find_run, journal=journal))
        if self._count(journal) < len(journal.values):  # the store was restored from a backup, say
            self._send(journal, journal.entries)
            self._count(journal)
        run_id, end = journal.run_id, journal.entries[-1]
        self._ask(methodcaller("set_tag", run_id, RECORDS_TAG, journal.count), journal)
        self._ask(methodcaller("set_terminated", run_id, end["status"], end["time_ms"]), journal)

    def _count(self, journal: Journal) -> int:
        """Count the metric values that the store has."""
        journal.stored = 0
        for name in sorted({name for name, _ in journal.values}):
            request = methodcaller("get_metric_history", journal.run_id, name)
            journal.stored += len(self._ask(request, journal))
        return journal.stored

    def _upload(self, journal: Journal) -> None:
        """Upload the checkpoints whose copies wait: improvements at once, the best at the end."""
        wanted = checkpoints.wanted(journal)
        for entry in wanted:
            bundle = journal.copies / entry["weights"]
            if bundle.exists() and (journal.ended or entry["keep"] == "improved"):
                request = partial(checkpoints.upload, run_id=journal.run_id, bundle=bundle)
                request = partial(request, entry=entry, wanted=wanted)
                self._offer(journal, "checkpoints", request)
                shutil.rmtree(bundle)

    def _offer(self, journal: Journal, what: str, request: Callable[[Any], object]) -> None:
        """Send a request that the store may refuse for good."""
        try:
            self._ask(request, journal)
        except _RefusedError as refusal:
            self._say_once(journal, f"goes without {what}: {refusal}")

    def _find_run(self, client: Any, journal: Journal) -> None:
        """Find the run, or make it; delete second ones, which a request that came twice made.

        Raises:
            _DeletedError: it was there, and is no more.
        """
        start = next(entry for entry in journal.entries if entry["act"] == "start")
        where = store.experiment_id(client, self.uri, start["experiment"])
        runs = client.search_runs([where], f"tags.`{JOURNAL_TAG}` = '{journal.id}'")
        if not runs and journal.run_id is None:
            tags = {JOURNAL_TAG: journal.id, FOLDER_TAG: folder_id(journal.path.parent)}
            runs = [client.create_run(where, start["time_ms"], tags, start["name"])]
        used = {run.info.run_id: bool(run.data.metrics) for run in runs}
        journal.run_id = journal.run_id or min(used, key=lambda run_id: (not used[run_id], run_id))
        if journal.run_id not in used:
            raise _DeletedError
        for run_id, in_use in used.items():
            if run_id != journal.run_id and not in_use:
                client.delete_run(run_id)

    def _ask(
        self, request: Callable[[Any], T], journal: Journal | None = None, tries: int = _TRIES
    ) -> T:
        """Return a client's answer; raise what an error means for the request, run or store."""
        try:
            if self._client is None:
                # A request that MLflow repeats by itself might make two runs.
                os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
                self._client = store.client_of(self.uri)
                # It would print a database's errors with their traces; here they are one line.
                logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            answer = request(self._client)
        except _DeletedError:
            raise
        except Exception as error:  # also a package that is missing, or what a database raises
            reason = store.without_secrets(_cause(error), self.uri)
            code = getattr(error, "error_code", None)
            if journal is None:
                raise StoreAwayError(reason) from error
            self._ask(partial(self._find_run, journal=journal))  # whether it answers, and has it
            if code == _DATABASE_REFUSAL and tries > 1:
                time.sleep(_PAUSE_S)
                return self._ask(request, journal, tries - 1)
            raise (_RefusedError if code in _REFUSALS else StoreBusyError)(reason) from error
        self.answered_s = time.monotonic()
        return answer

    def _say_once(self, journal: Journal, words: str, example: str = "") -> None:
        """Show a message once for each run, whatever the example."""
        message = f"the run {journal.run_id} at {store.shown(self.uri)} {words}"
        if message not in self._said:
            self._said.add(message)
            self._say(message + example)


def _cause(error: BaseException) -> str:
    """Return what the innermost error says: the others wrap it in addresses and advice."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
