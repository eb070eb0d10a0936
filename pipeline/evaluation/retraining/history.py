"""Many calls as rows for people: those that did the same, one after the other, are one row."""

from collections.abc import Sequence

from pydantic import ConfigDict, RootModel

from pipeline.evaluation.reports.schema import Figure, Part
from pipeline.evaluation.retraining.record import Call

TITLES = {
    "promoted": "promoted",
    "refused": "refused by the gate",
    "held": "held back",
    "nothing": "nothing to do",
    "failed": "failed",
}


class Row(Part):
    """One call, or several in a row that had nothing to do, or were held back for the same.

    Attributes:
        call: the latest of them.
        calls: how many.
    """

    call: Call
    calls: int = 1

    @property
    def why(self) -> str:
        """The reasons for the outcome, in one line."""
        call = self.call
        if call.outcome == "refused":
            failed = [check.text for check in call.checks if not check.passed]
            return "; ".join(failed or call.notes) or "by an earlier decision"
        return "; ".join(reason.text for reason in call.reasons)


class Rows(RootModel[tuple[Row, ...]]):
    """The latest rows, the oldest first."""

    model_config = ConfigDict(frozen=True)


def rows_of(calls: Sequence[Call]) -> list[Row]:
    """Return the rows, the oldest first."""
    rows: list[Row] = []
    for call in calls:
        if rows and _is_same(call, rows[-1].call):
            rows[-1] = Row(call=call, calls=rows[-1].calls + 1)
        else:
            rows.append(Row(call=call))
    return rows


def champions(calls: Sequence[Call]) -> list[tuple[Call, str, Figure | None]]:
    """Return calls at whose end a champion was known: its version and its metric.

    A figure that was not measured is that of before, while the champion is the same.
    """
    found: list[tuple[Call, str, Figure | None]] = []
    for call in calls:
        if call.champion:
            value = call.champion.value
            if value is None and found and found[-1][1] == call.champion.version:
                value = found[-1][2]
            found.append((call, call.champion.version, value))
    return found


def _is_same(call: Call, before: Call) -> bool:
    if call.trained or before.trained or call.outcome != before.outcome:
        return False
    keys = [{reason.key for reason in one.reasons} for one in (call, before)]
    return call.outcome == "nothing" or (call.outcome == "held" and keys[0] == keys[1])
