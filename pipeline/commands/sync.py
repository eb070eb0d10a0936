"""`convoy sync`: delivers to the tracking store what trainings could not."""

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.tracking.journal import in_use, journal_folder, left_behind
from pipeline.runtime.tracking.replay import Replay, StoreAwayError
from pipeline.runtime.tracking.store import (
    check_address,
    lasting_address,
    shown,
    store_file,
    tracking_uri,
)
from pipeline.runtime.tracking.uploader import say


def run(params: Params) -> None:
    """Deliver what is left for the store of params.yaml, and print what became of it.

    Raises:
        PipelineError: the store does not take it now.
    """
    uri = tracking_uri(params.tracking)
    check_address(uri)
    journals = journal_folder(params.resources.storage)
    here, elsewhere = _waiting(journals, lasting_address(uri))
    for other, records in elsewhere.items():
        print(f"{records} records wait for another store: MLFLOW_TRACKING_URI={other} convoy sync")
    for name in sorted(in_use(journals)):
        print(f"{name} belongs to a training that runs, and delivers by itself")
    if not here:
        print(f"nothing is left to deliver to {shown(uri)}")
        return
    try:
        for line in Replay(params.tracking, say).settle_left(journals):
            print(line)
    except StoreAwayError as error:
        left, _ = _waiting(journals, lasting_address(uri))
        advice = "" if store_file(uri) else "; start the server"
        raise PipelineError(
            f"the MLflow store at {shown(uri)} does not take what is left, {left} records in"
            f" {journals}: {error}{advice} and run convoy sync again"
        ) from error


def _waiting(journals: Path, store: str) -> tuple[int, dict[str, int]]:
    """Count the records that processes which are gone left for the store, and for others."""
    found: dict[str, int] = {}
    for journal in left_behind(journals):
        other = journal.start["store"]
        unended = int(journal.status is None)  # its process was killed
        found[other] = found.get(other, 0) + journal.waiting + unended
    here = found.pop(store, 0)
    return here, {name: number for name, number in found.items() if name}
