"""One call of `convoy retrain`, from the lock to the notice.

A call is over when its line stands in the history. All before that can be done again: the images
are new until then, DVC runs what has not run, a training goes on from its checkpoint, a model is
registered and promoted once. So a call that is killed at any moment leaves its work to the next.
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import PipelineError
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.schema import EvaluateReport
from pipeline.evaluation.retraining.decide import Decision
from pipeline.evaluation.retraining.record import (
    Call,
    GateCheck,
    ModelRecord,
    OutcomeName,
    Reason,
)
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.progress import command_clock
from pipeline.runtime.retraining.data_update import update_command, update_images
from pipeline.runtime.retraining.look import Look, Places, look, show_calls
from pipeline.runtime.retraining.publish import check_can_publish, commit_results, push_outputs
from pipeline.runtime.retraining.records import Accepted, Open, Records
from pipeline.runtime.retraining.webhook import deliver_waiting, notice_of, webhook_address
from pipeline.runtime.retraining.workflow import Workflow, end_processes
from pipeline.runtime.storage.lease import Lease, held_lease, holder
from pipeline.runtime.storage.shared import Storage


def retrain(params: Params, places: Places, *, accept: bool) -> Call:
    """Make one call.

    Args:
        params: all of them.
        places: of the workflow.
        accept: whether a person agrees to what the call before was held back for.

    Returns:
        What it found and did.

    Raises:
        LeaseTakenError: another call is being made.
        PipelineError: nothing can be written down: the storage or the history cannot be used; or
            there is nothing to agree to.
    """
    webhook_address()
    records = Records(Storage(params.resources.storage), params.register_.name)
    with held_lease(records.storage, records.lock) as lease:
        history = records.history()
        if accept:
            records.accept(_held_back(history))
        return _Running(params, places, records, history, lease).run()


def plan(params: Params, places: Places) -> OutcomeName:
    """Say what a call would do now, and why; change nothing but what is remembered of images.

    Returns:
        'held' or 'nothing', or 'promoted' where a call would train: what it may come to.

    Raises:
        PipelineError: see `retrain`; or images, store or champion cannot be had.
    """
    webhook_address()
    records = Records(Storage(params.resources.storage), params.register_.name)
    if other := holder(records.storage, records.lock):
        _say(f"would do nothing: another call is being made: {other.holder}")
        return "nothing"
    history = records.history()
    if not history:
        _say(f"there is no history yet in {records.storage.uri}: a call begins one")
    if before := records.open():
        _say(
            f"the call of {before.begun:%Y-%m-%d %H:%M} on {before.host} was killed while it"
            f" {before.doing}: a call would go on with its work"
        )
    if command := update_command(params.data.root):
        _say(
            f"a call would run dvc {' '.join(command)} first; this looks at the images as they are"
        )
    found = look(params, places, records, history)
    for line in found.lines():
        _say(line)
    decision = found.decide(history, params, _agreed(found, records))
    would = {"train": "would train", "hold": "would be held back for a person"}
    for reason in decision.reasons:
        _say(f"{would.get(decision.action, 'would do nothing')}: {reason.text}")
    outcomes: dict[str, OutcomeName] = {"train": "promoted", "hold": "held", "nothing": "nothing"}
    return outcomes[decision.action]


def _held_back(history: Sequence[Call]) -> Accepted:
    if not history or history[-1].outcome != "held":
        raise PipelineError(
            "--accept agrees to what the latest call was held back for, and"
            f" {'that call was not' if history else 'there was no call yet'}; run convoy retrain"
            " without it"
        )
    return Accepted(keys=tuple(sorted(_keys(history[-1]))), call=history[-1].id)


def _agreed(found: Look, records: Records) -> tuple[str, ...]:
    """Return the keys of the reasons that a person has agreed to for these images."""
    accepted = records.accepted()
    if accepted is None:
        return ()
    if beyond := found.beyond(records.held(accepted.call)):
        _say(
            f"{beyond} image{' has' if beyond == 1 else 's have'} come, vanished or got another"
            " label since the call that a person agreed to: the agreement ends"
        )
        return ()
    return accepted.keys


@dataclass
class _Running:
    """A call that holds the lock."""

    params: Params
    places: Places
    records: Records
    history: Sequence[Call]
    lease: Lease

    def __post_init__(self) -> None:
        now = _now()
        self.begun, self.host = now, socket.gethostname()
        self.id = f"{now:%Y%m%dT%H%M%SZ}-{time.time_ns() % 10**6:06d}"
        self.workflow = Workflow(self.id, self.lease.check, self.places.dvc_lock)
        self.found: Look | None = None

    def run(self) -> Call:
        """Make the call, to the notice."""
        resumed = self._take_over()
        self._doing("looked at the images")
        try:
            call = self._work(resumed)
        except PipelineError as error:
            self.lease.check()  # who has lost the lock must not write
            call = self._ended("failed", (_failed(str(error)),), resumed=resumed)
        return self._finish(call)

    def _take_over(self) -> str | None:
        """End what a killed call has left running; return its id."""
        before = self.records.open()
        if before is None:
            return None
        left = end_processes(before.id) if before.host == self.host else 0
        ended = f", and left {left} processes running, which are ended now" if left else ""
        _say(
            f"the call of {before.begun:%Y-%m-%d %H:%M} on {before.host} was killed while it"
            f" {before.doing}{ended}; this call goes on with its work"
        )
        return before.id

    def _work(self, resumed: str | None) -> Call:
        params, rules = self.params, self.params.retrain
        with command_clock("retrain"):
            if done := update_images(params.data.root, self.workflow, self.places.images_seen):
                _say(done)
            self.found = found = look(params, self.places, self.records, self.history)
        for line in found.lines():
            _say(line)
        agreed = _agreed(found, self.records)
        if not agreed:
            self.records.forget_accepted()
        decision = found.decide(self.history, params, agreed)
        for reason in decision.reasons:
            _say(f"{_ACTIONS[decision.action]}: {reason.text}")
        if decision.action == "nothing":
            return self._ended("nothing", decision.reasons, resumed=resumed)
        if decision.action == "hold":
            return self._ended("held", decision.reasons, resumed=resumed)
        check_can_publish(self.workflow, commit=rules.commit, push=rules.push)
        self._doing("ran the workflow")
        self.workflow.repro()
        return self._judged(decision, resumed)

    def _judged(self, decision: Decision, resumed: str | None) -> Call:
        """Read from the reports what became of the model."""
        register = read_report(self.places.register, RegisterReport)
        evaluate = read_report(self.places.evaluate, EvaluateReport)
        metric = self.params.evaluate.metric
        candidate = ModelRecord(version=register.version, value=evaluate.final.test.figures[metric])
        champion: ModelRecord | None = candidate
        if register.alias not in register.aliases:
            held = register.champion
            champion_test = held.test.figures[metric] if held and held.test else None
            champion = ModelRecord(version=held.version, value=champion_test) if held else None
        assert self.found
        late = self.found.images.came_later(read_table(self.places.index, ["sha256", "problem"]))
        notes = [f"{late} images came during the call, and nobody looked at them"] * bool(late)
        found: dict[str, Any] = {
            "trained": True,
            "resumed": resumed,
            "accepted": decision.accepted,
            "metric": metric,
            "candidate": candidate,
            "champion": champion,
            "checks": tuple(
                GateCheck(name=check.name, passed=check.passed, text=check.reason)
                for check in register.checks
            ),
            "notes": (*notes, *register.notes),
        }
        if register.decision == "refused":
            return self._ended("refused", decision.reasons, **found)
        if self._is_promoted(register, resumed):
            return self._ended("promoted", decision.reasons, **found)
        nothing = Reason(
            key="unchanged",
            text=f"the workflow gave version {register.version}, which was judged before",
        )
        return self._ended("nothing", (*decision.reasons, nothing), **found)

    def _is_promoted(self, register: RegisterReport, resumed: str | None) -> bool:
        """Whether this call, or the killed one that it goes on with, has promoted the model."""
        assert self.found is not None
        if register.alias not in register.aliases:
            return False  # its alias was moved since
        reported = {
            call.candidate.version
            for call in self.history
            if call.outcome == "promoted" and call.candidate
        }
        before = self.found.champion if resumed is None else None
        return register.version not in {before, *reported}

    def _ended(self, outcome: str, reasons: Sequence[Reason], **more: Any) -> Call:
        found = self.found
        if found is not None:
            more = {
                "changes": found.changes,
                "drift": found.drift,
                "noise": found.noise,
                "sections": found.sections,
                "champion": found.champion and ModelRecord(version=found.champion, value=None),
                **more,
            }
        return Call.model_validate(
            {
                "id": self.id,
                "begun": self.begun,
                "ended": _now(),
                "host": self.host,
                "outcome": outcome,
                "reasons": tuple(reasons),
                **more,
            }
        )

    def _finish(self, call: Call) -> Call:
        """Show, publish, write down and announce what a call did."""
        model, alias = self.params.register_.name, self.params.register_.alias
        news = self._is_news(call)
        if call.trained or news:
            call = self._show(call)
        if call.outcome == "held" and news:
            try:
                call = self._publish(call)
            except PipelineError as error:
                self.lease.check()
                call = self._noted(call, f"the page was not published: {error}")
        if call.trained:
            try:
                with command_clock("retrain"):
                    call = self._publish(call)
            except PipelineError as error:
                self.lease.check()
                # The next call does it again: this one is not a training that has ended.
                text = f"the model was {call.outcome}; {error}; the next call tries again"
                call = call.model_copy(
                    update={"outcome": "failed", "trained": False, "reasons": (_failed(text),)}
                )
        if self.found and (call.trained or call.outcome == "held"):
            table = self.found.known_from_now_on(self.begun)
            if call.trained:
                call = call.model_copy(update={"known": self.records.keep_known(call.id, table)})
            else:
                self.records.keep_held(call.id, table)
        if webhook_address() and news:
            self.records.post(call.id, notice_of(call, model, alias))
        self.lease.check()
        call = call.model_copy(update={"ended": _now()})
        self.records.append(call)
        for line in deliver_waiting(self.records):
            _say(line)
        latest = next((one.known for one in (call, *reversed(self.history)) if one.known), None)
        self.records.tidy(latest)
        return call

    def _show(self, call: Call) -> Call:
        """Bring the page up to date, if there is one and the workflow can run."""
        show_calls(self.places, [*self.history, call], self.found)
        if call.outcome != "failed" and self.places.evaluate.exists():
            self._doing("wrote the page")
            _say("writes the page")
            try:
                # What it prints of the model was printed by the training, or is of one before.
                self.workflow.repro("--single-item", "register", "report", quiet=True)
            except PipelineError as error:
                self.lease.check()
                return self._noted(call, f"the page is that of before: {error}")
        return call

    def _noted(self, call: Call, note: str) -> Call:
        _say(note)
        return call.model_copy(update={"notes": (*call.notes, note)})

    def _publish(self, call: Call) -> Call:
        rules = self.params.retrain
        if rules.push:
            self._doing("pushed the outputs")
            push_outputs(self.workflow)
        if rules.commit:
            version = f" version {call.candidate.version}" if call.candidate else ""
            message = f"convoy retrain: {call.outcome}{version}"
            root = self.params.data.root if call.trained else None
            commit = commit_results(self.workflow, root, message)
            return call.model_copy(update={"commit": commit})
        return call

    def _is_news(self, call: Call) -> bool:
        """Whether a notice is worth sending: no call with nothing to do, nothing said before."""
        if call.outcome == "nothing":
            return False
        before = self.history[-1] if self.history else None
        if before is None or call.outcome not in ("held", "failed"):
            return True
        if call.outcome == "held":
            return before.outcome != "held" or _keys(before) != _keys(call)
        return before.outcome != "failed" or before.reasons != call.reasons

    def _doing(self, what: str) -> None:
        self.lease.check()
        self.records.begin(Open(id=self.id, begun=self.begun, host=self.host, doing=what))


_ACTIONS = {"train": "trains", "hold": "held back for a person", "nothing": "nothing to do"}


def _keys(call: Call) -> set[str]:
    return {reason.key for reason in call.reasons}


def _failed(text: str) -> Reason:
    return Reason(key="failed", text=text)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _say(line: str) -> None:
    print(f"retrain: {line}", flush=True)
