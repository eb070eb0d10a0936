"""`convoy retrain`: what a scheduler calls."""

from pipeline.errors import PipelineError
from pipeline.evaluation.retraining.record import EXIT_CODES, Call
from pipeline.files import repository
from pipeline.params import Params
from pipeline.progress import command_clock
from pipeline.runtime.retraining.call import plan, retrain
from pipeline.runtime.retraining.look import Places
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.storage.lease import LeaseTakenError
from pipeline.stages import _paths


def run(params: Params, *, dry_run: bool, accept: bool) -> int:
    """Make one call, or say what it would do.

    Args:
        params: all of them.
        dry_run: whether to change nothing.
        accept: whether a person agrees to what the call before was held back for.

    Returns:
        The exit code: 0 promoted, or would train; 1 failed; 3 nothing to do, or another call is
        being made; 4 refused by the gate; 5 held back for a person.

    Raises:
        PipelineError: the storage or the history cannot be used, or there is nothing to agree to.
    """
    places = _places()
    if dry_run:
        if accept:
            raise PipelineError("--accept changes what is agreed to; leave it out with --dry-run")
        with command_clock("retrain"):
            return EXIT_CODES[plan(params, places)]
    try:
        with sigterm_interrupts():
            call = retrain(params, places, accept=accept)
    except LeaseTakenError as error:
        print(f"retrain: another call is being made: {error}")
        return EXIT_CODES["nothing"]
    print(f"retrain: {_summary(call)}")
    return call.exit_code


def _places() -> Places:
    state = repository() / _paths.STATE
    return Places(
        measurements=state / "index",
        seen=state / "retraining" / "seen",
        champions=_paths.STATE / "champions",
        shown=_paths.CALLS,
        index=_paths.INDEX,
        split=_paths.SPLIT,
        register=_paths.REPORTS / "register.json",
        evaluate=_paths.REPORTS / "evaluate.json",
        dvc_lock=state / "retraining" / "dvc.lock",
        images_seen=state / "retraining" / "images.dvc",
    )


def _summary(call: Call) -> str:
    """Say how a call ended, in one line."""
    version = call.candidate and f"version {call.candidate.version}"
    if call.outcome == "promoted":
        return f"promoted {version}"
    if call.outcome == "refused":
        failed = "; ".join(check.text for check in call.checks if not check.passed)
        return f"{version} was refused by the gate{f': {failed}' if failed else ''}"
    if call.outcome == "held":
        return "held back; look at the images, and repair them, or run convoy retrain --accept"
    if call.outcome == "failed":
        return f"failed: {call.reasons[0].text}"
    return "ended with nothing to do"
