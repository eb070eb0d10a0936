"""`convoy sync`: delivers to the tracking store what trainings could not."""

from collections import Counter
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.tracking.journal import journal_folder, unsettled
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
    journals = journal_folder(params.resources.runs)
    waiting = _waiting(journals)
    here = waiting.pop(lasting_address(uri), 0)
    for other, records in waiting.items():
        print(f"{records} records wait for another store: MLFLOW_TRACKING_URI={other} convoy sync")
    for journal, left in unsettled(journals):
        if not left:
            print(f"{journal.id} belongs to a training that runs, and delivers by itself")
    if not here:
        print(f"nothing is left to deliver to {shown(uri)}")
        return
    try:
        for line in Replay(params.tracking, say).settle_left(journals):
            print(line)
    except StoreAwayError as error:
        here = _waiting(journals)[lasting_address(uri)]
        advice = "" if store_file(uri) else "; start the server"
        raise PipelineError(
            f"the MLflow store at {shown(uri)} does not take what is left, {here} records in"
            f" {journals}: {error}{advice} and run convoy sync again"
        ) from error


def _waiting(journals: Path) -> Counter[str]:
    """Count the records that processes which are gone left, by their store."""
    found = Counter[str]()
    for journal, left in unsettled(journals):
        if left and (store := journal.start["store"]):
            found[store] += journal.waiting + (not journal.ended)  # its process was killed
    return found
