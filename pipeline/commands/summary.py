"""`convoy summary`: the models side by side, and where the results are."""

from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.schema import EvaluateReport, Figure, TtaReport
from pipeline.evaluation.reports.words import interval_text, number
from pipeline.params import Params
from pipeline.runtime.tracking.store import store_file, tracking_uri
from pipeline.stages._paths import REPORTS


def run(params: Params) -> None:
    """Print the table, the page, the registered model and how to open the MLflow UI.

    Raises:
        PipelineError: the pipeline has not run yet, or a report is damaged.
    """
    evaluate = read_report(REPORTS / "evaluate.json", EvaluateReport)
    registered = read_report(REPORTS / "register.json", RegisterReport)
    tta = read_report(REPORTS / "tta.json", TtaReport)
    print(_table(evaluate))
    print()
    print(f"report      {REPORTS / 'index.html'}")
    aliases = ", ".join(registered.aliases) or "without an alias"
    print(f"ships       {tta.network.name}: {tta.network.reason}")
    print(f"model       {registered.model} version {registered.version} ({aliases})")
    if not registered.promoted:
        why = [check.reason for check in registered.checks if not check.passed]
        print(f"            not promoted: {'; '.join([*why, *registered.notes])}")
    else:
        for check in registered.checks:
            if not check.shown:
                print(f"            {check.caveat}")
    uri = tracking_uri(params.tracking)
    if store_file(uri):
        print(f"MLflow UI   .venv/bin/mlflow ui --backend-store-uri {uri}")
    else:
        print(f"MLflow UI   {uri}")


def _table(evaluate: EvaluateReport) -> str:
    """Write accuracy, balanced accuracy and macro-F1 of each model on the test set."""
    lines = [["test set, 95 % intervals", "accuracy", "balanced accuracy", "macro-F1"]]
    for name, model in evaluate.models.items():
        test = model.test
        shown = (test.accuracy, test.balanced_accuracy, test.macro_f1)
        lines.append([name, *map(_text, shown)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _text(figure: Figure) -> str:
    value = "n/a" if figure.value is None else number(figure.value)
    return f"{value} {interval_text(figure.ci95)}"
