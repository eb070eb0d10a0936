"""Carries out at the tracking store what journals say: in order, and as often as need be.

Everything is safe to repeat. A run is found again by the id of its journal, metrics carry their
time and step (MLflow keeps equal ones once), and params, tags, data sets and checkpoints are what
they are. So a request that was not answered is sent again.
"""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from pipeline.params import Tracking
from pipeline.runtime.tracking import checkpoints, store
from pipeline.runtime.tracking.journal import Entry, Journal, in_use, left_behind
from pipeline.runtime.tracking.stale_runs import JOURNAL_TAG, end_stale_runs

RECORDS_TAG = "convoy.records"
_PER_CALL = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits
# Error codes with which a store says that it will never take a request; some are an older server's.
_NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
_REFUSALS = ["INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", _NOT_THERE]
_REFUSALS += ["ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"]
_DATABASE_REFUSAL = "BAD_REQUEST"  # also where two processes write the same row: try again
_DATABASE_TRIES = 3


class StoreAwayError(Exception):
    """The store did not take a record now; `answers`: it answers other requests."""

    def __init__(self, reason: str, answers: bool = False) -> None:
        super().__init__(" ".join(reason.split()))
        self.answers = answers


class _RefusedError(Exception):
    """The store will never take this, or (`gone`) nothing of a run that was deleted there."""

    def __init__(self, reason: str, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


class Replay:
    """A connection to the store; it last answered at `answered_s` (`time.monotonic`)."""

    def __init__(self, tracking: Tracking, say: Callable[[str], None]) -> None:
        """Take the store, and a function that shows a message. Nothing is connected yet."""
        self.uri, self.answered_s = store.tracking_uri(tracking), time.monotonic()
        self._experiment, self._say = tracking.experiment, say
        self._connected: Any = None
        self._said, self._repeated = set[tuple[str, str]](), set[str]()
        self._tries, self._place = Counter[tuple[str, int]](), ("", 0)

    def deliver(self, journal: Journal) -> None:
        """Carry out the entries of a locked journal that this process has not delivered.

        Raises:
            StoreAwayError: the store does not answer, or answers that it cannot.
        """
        while journal.delivered < len(journal.entries):
            rest = islice(journal.entries, journal.delivered, None)
            group = list(takewhile(lambda entry: entry["act"] in ("metrics", "tags"), rest))
            group = group or [journal.entries[journal.delivered]]
            self._place, done = (journal.id, journal.delivered), journal.delivered + len(group)
            complete = True
            try:
                complete = self._carry_out(journal, group, last=done == len(journal.entries))
            except _RefusedError as refusal:
                lacks = f"goes without its {group[0]['act']}: {refusal}"
                self._say_once(journal, str(refusal) if refusal.gone else lacks)
            journal.delivered = done if complete else 0

    def settle_left(self, journals: Path) -> Iterator[str]:
        """Deliver what processes that are gone have left for this store; yield a line for each.

        A run that was not ended ends as KILLED; its training may still go on later.

        Raises:
            StoreAwayError: as in `deliver`; journals that the store could take are delivered.
        """
        failure = None
        for journal in left_behind(journals):
            if not journal.start["store"]:
                if journal.entries:
                    self._say(f"{journal.path} is damaged: {journal.waiting} records are lost")
                journal.retire()
            if journal.start["store"] != store.lasting_address(self.uri):
                continue
            if journal.status is None:
                last_ms = max(entry.get("time_ms", 0) for entry in journal.entries)
                journal.append({"act": "end", "status": "KILLED", "time_ms": last_ms})
            waiting = journal.waiting
            try:
                self.deliver(journal)
            except StoreAwayError as error:
                if not error.answers:
                    raise
                failure = error
                continue
            journal.retire()
            has = "is deleted" if journal.stored is None else f"has {journal.count} values"
            run = f"run {journal.run_id}, which {has}"
            yield f"{waiting} records of {journal.id} delivered to {run}"
        if failure:
            raise failure

    def end_stale_runs(self, journals: Path, own: str) -> list[str]:
        """End the runs of processes that are gone, but for the journal `own`; return their ids."""
        with self._request() as client:
            experiment = store.experiment_id(client, self.uri, self._experiment)
            return end_stale_runs(client, experiment, in_use(journals) | {own})

    def _carry_out(self, journal: Journal, group: Sequence[Entry], last: bool) -> bool:
        """Carry out entries that go together; return False if the store lacks earlier ones."""
        entry, act = group[0], group[0]["act"]
        if act == "start" or journal.run_id is None:
            self._start(journal, entry if act == "start" else journal.start)
        if act in ("metrics", "tags"):
            self._log(journal, group)
        elif act == "checkpoint" and entry["keep"] == "improved":
            try:
                self._upload(journal, entry)
            except StoreAwayError as error:
                # Where only its files cannot be stored, the figures go on. The end tries again.
                if not error.answers:
                    raise
        elif act == "end" and last:
            return self._end(journal, entry)
        return True

    def _start(self, journal: Journal, entry: Entry) -> None:
        """Make the run, unless there is one, which then goes on."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        with self._request() as client:
            found = [run.info.run_id for run in self._runs_of(client, journal)]
            if not found:
                where = store.experiment_id(client, self.uri, entry["experiment"])
                tags = {JOURNAL_TAG: journal.id}
                made = client.create_run(where, entry["time_ms"], tags, entry["name"])
                found = [made.info.run_id]
            journal.run_id = min(found)
        # Not with the run: a value that is refused must not cost the others, or the run.
        self._log(journal, [{"act": act, "values": entry[act]} for act in ("tags", "params")])
        with self._request(journal.run_id) as client:
            client.update_run(journal.run_id, status="RUNNING")
            inputs = [
                DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])
                for context, dataset in entry["datasets"].items()
            ]
            client.log_inputs(journal.run_id, datasets=inputs)

    def _end(self, journal: Journal, entry: Entry) -> bool:
        """Count the metrics and complete the run; return False if it must be sent once more."""
        run_id, stored = journal.run_id, 0
        self._check_run(run_id)
        for name in sorted({name for name, _ in journal.values}):
            with self._request(run_id) as client:
                stored += len(client.get_metric_history(run_id, name))
        journal.stored = stored
        if stored < len(journal.values) and journal.id not in self._repeated:
            self._repeated.add(journal.id)  # as when the store was restored from a backup
            return False
        with self._request(run_id) as client:
            client.set_tag(run_id, RECORDS_TAG, journal.count)
            for run in self._runs_of(client, journal):
                if run.info.run_id != run_id and not run.data.metrics:
                    client.delete_run(run.info.run_id)  # made by a request that was sent twice
            client.set_terminated(run_id, entry["status"], entry["time_ms"])
        for checkpoint in checkpoints.wanted(journal):
            self._upload(journal, checkpoint)
        return True

    def _upload(self, journal: Journal, entry: Entry) -> None:
        """Upload a checkpoint that waits, and delete its copy, and what it replaces there."""
        bundle = journal.copies / entry["weights"]
        if bundle.exists():
            digests = {kept["weights"] for kept in checkpoints.wanted(journal)}
            try:
                with self._request(journal.run_id) as client:
                    run = client.get_run(journal.run_id)
                    checkpoints.upload(client, run, entry, bundle)
                    checkpoints.delete_others(client, run, digests)
            except _RefusedError as refusal:
                self._say_once(journal, f"goes without checkpoints: {refusal}")
            shutil.rmtree(bundle)

    def _log(self, journal: Journal, entries: Sequence[Entry]) -> None:
        """Log the values of entries, many per call; of tags and params the last ones."""
        from mlflow.entities import Metric, Param, RunTag

        kinds = {"metrics": Metric, "params": Param, "tags": RunTag}
        items: dict[str, dict[Any, Any]] = {act: {} for act in kinds}
        for entry in entries:
            act = entry["act"]
            place = (entry["time_ms"], entry["step"]) if act == "metrics" else ()
            for name, value in entry["values"].items():
                items[act][name, place] = kinds[act](name, value, *place)
        for act, limit in _PER_CALL.items():
            values = list(items[act].values())
            for start in range(0, len(values), limit):
                self._log_items(journal, act, values[start : start + limit])

    def _log_items(self, journal: Journal, act: str, items: Sequence[Any]) -> None:
        try:
            with self._request(journal.run_id) as client:
                client.log_batch(journal.run_id, **{act: items}, synchronous=True)
        except _RefusedError as refusal:
            if refusal.gone:
                raise
            if len(items) == 1:
                example = f" {items[0].key}: {refusal}"
                self._say_once(journal, f"goes without {act} such as", example)
                return
            middle = len(items) // 2  # one of them is to blame; the others go on
            self._log_items(journal, act, items[:middle])
            self._log_items(journal, act, items[middle:])

    def _runs_of(self, client: Any, journal: Journal) -> list[Any]:
        """Return the runs that were made for a journal, but for deleted ones."""
        where = store.experiment_id(client, self.uri, journal.start["experiment"])
        return list(client.search_runs([where], f"tags.`{JOURNAL_TAG}` = '{journal.id}'"))

    @contextmanager
    def _request(self, run_id: str | None = None) -> Iterator[Any]:
        """Yield a client; raise what an error means: for the request, the run, or the store."""
        try:
            if self._connected is None:
                # A request that MLflow repeats by itself might make two runs.
                os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
                self._connected = store.client_of(self.uri)
                # It would print a database's errors with their traces; here they are one line.
                logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            yield self._connected
        except (StoreAwayError, _RefusedError):
            raise
        except Exception as error:  # also a package that is missing, or what a database raises
            reason, code = store.without_secrets(_cause(error), self.uri), _code(error)
            if run_id is None:
                raise StoreAwayError(reason) from error
            self._check_run(run_id)
            self._tries[self._place] += code == _DATABASE_REFUSAL
            insists = code == _DATABASE_REFUSAL and self._tries[self._place] >= _DATABASE_TRIES
            if code in _REFUSALS or insists:
                raise _RefusedError(reason) from error
            raise StoreAwayError(reason, answers=True) from error
        self.answered_s = time.monotonic()

    def _check_run(self, run_id: str | None) -> None:
        """Make sure that the store answers and has the run."""
        with self._request() as client:
            try:
                stage = client.get_run(run_id).info.lifecycle_stage
            except Exception as error:
                if _code(error) != _NOT_THERE:
                    raise
                stage = "deleted"
        if stage == "deleted":
            raise _RefusedError("was deleted there; its further records are dropped", gone=True)

    def _say_once(self, journal: Journal, words: str, example: str = "") -> None:
        """Show a message once for each run, whatever the example."""
        if (journal.id, words) not in self._said:
            self._said.add((journal.id, words))
            self._say(f"the run {journal.run_id} at {store.shown(self.uri)} {words}{example}")


def _code(error: BaseException) -> str | None:
    return getattr(error, "error_code", None)


def _cause(error: BaseException) -> str:
    """Return what the innermost error says: the others wrap it in addresses and advice."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__
