"""`convoy summary`: the models side by side, and where the results are."""

from typing import Any

from pipeline.evaluation.reports.schema import REPORTS as SHAPES
from pipeline.evaluation.reports.schema import check_shape
from pipeline.evaluation.reports.summary import summary_table
from pipeline.files import read_report
from pipeline.params import Params
from pipeline.runtime.tracking.store import store_file, tracking_uri
from pipeline.stages._paths import REPORTS


def run(params: Params) -> None:
    """Print the table, the page, the registered model and how to open the MLflow UI.

    Raises:
        PipelineError: the pipeline has not run yet, or a report is damaged.
    """
    evaluate, registered = (_read(name) for name in ("evaluate", "register"))
    print(summary_table(evaluate))
    print()
    print(f"report      {REPORTS / 'index.html'}")
    aliases = ", ".join(registered["aliases"]) or "without an alias"
    print(f"model       {registered['model']} version {registered['version']} ({aliases})")
    if not registered["promoted"]:
        failed = [check["reason"] for check in registered["checks"] if not check["passed"]]
        print(f"            not promoted: {'; '.join(failed or registered['reasons'])}")
    uri = tracking_uri(params.tracking)
    if store_file(uri):
        print(f"MLflow UI   .venv/bin/mlflow ui --backend-store-uri {uri}")
    else:
        print(f"MLflow UI   {uri}")


def _read(name: str) -> dict[str, Any]:
    path = REPORTS / f"{name}.json"
    report: dict[str, Any] = check_shape(read_report(path), SHAPES[name], path)
    return report
