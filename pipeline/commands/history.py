"""`convoy history`: what the calls of `convoy retrain` have found and done."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.retraining import draw_history
from pipeline.evaluation.reports.schema import Figure
from pipeline.evaluation.reports.words import interval_text, number
from pipeline.evaluation.retraining.history import TITLES, Row, rows_of
from pipeline.params import Params
from pipeline.runtime.retraining.records import Records
from pipeline.runtime.storage.shared import Storage

_WHY = 160  # characters of a reason


def run(params: Params, every: bool, output: Path) -> None:
    """Print a table of the calls and draw them.

    Args:
        params: all of them.
        every: whether calls that had nothing to do have a line each.
        output: of the picture.

    Raises:
        PipelineError: no call has ended yet, or the output is no .png.
    """
    if output.suffix != ".png":
        raise PipelineError(f"--output {output}: expected a name that ends in .png")
    calls = Records(Storage(params.resources.storage), params.register_.name).history()
    if not calls:
        raise PipelineError(
            f"no call of convoy retrain has ended yet for {params.register_.name} in"
            f" {params.resources.storage}; make one, or correct register.name or resources.storage"
        )
    rows = [row for call in calls for row in rows_of([call])] if every else rows_of(calls)
    print(_table(rows))
    save(draw_history(calls), output)
    print(f"picture: {output}")


def _table(rows: Sequence[Row]) -> str:
    metric = next((row.call.metric for row in reversed(rows) if row.call.metric), "metric")
    lines = [["ended (UTC)", "outcome", "images", "new", "drift p", f"champion, {metric}", "why"]]
    lines += [_line(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _line(row: Row) -> list[str]:
    call = row.call
    changes, drift = call.changes, call.drift
    champion = call.champion
    return [
        f"{call.ended:%Y-%m-%d %H:%M}",
        TITLES[call.outcome] + (f" ({row.calls} calls)" if row.calls > 1 else ""),
        str(changes.images) if changes else "-",
        str(changes.new) if changes else "-",
        f"{drift.classifier_p:.2g}" if drift and drift.classifier_p is not None else "-",
        f"version {champion.version}{_text(champion.value)}" if champion else "-",
        row.why if len(row.why) <= _WHY else row.why[: _WHY - 1] + "…",
    ]


def _text(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return ""
    return f": {number(figure.value)} {interval_text(figure.ci95)}"
