"""What the reports say of the trained models, for their runs in MLflow."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.evaluation.registration.run_metrics import final_metrics, network_metrics
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.schema import EvaluateReport, TtaReport
from pipeline.params import Params
from pipeline.runtime.tracking.trained import Result
from pipeline.stages._paths import BASE, FINAL, HISTORY, PICTURES, REPORTS
from pipeline.stages._trained import trained

_LEARNING_CURVES = PICTURES / "evaluate" / "learning_curves.png"


def judged_models(params: Params, evaluate: EvaluateReport) -> dict[str, Result]:
    """Return the first model and the final one, by the names of their trainings' stages.

    Figures of the network as it was trained have the same names for both.

    Args:
        params: all that they were trained with.
        evaluate: reports/evaluate.json.
    """
    reports = {name: REPORTS / f"{name}.json" for name in ("evaluate", "tta")}
    tta = read_report(reports["tta"], TtaReport)
    pictures = sorted(PICTURES.rglob("*.png"))
    return {
        "train": Result(
            params=params,
            trained=trained(params, "train"),
            history=HISTORY / "base.json",
            bundle=BASE,
            metrics=network_metrics(evaluate.base),
            files=_places([reports["evaluate"], *({_LEARNING_CURVES} & {*pictures})]),
        ),
        "finetune": Result(
            params=params,
            trained=trained(params, "finetune"),
            history=HISTORY / "tuned.json",
            bundle=FINAL,
            metrics=network_metrics(evaluate.tuned) | final_metrics(evaluate, tta),
            files=_places([*reports.values(), *pictures]),
        ),
    }


def _places(files: list[Path]) -> Mapping[str, Path]:
    """Say where files go among a run's artifacts: reports/, or pictures/<stage>/."""
    return {
        path.relative_to(REPORTS if PICTURES in path.parents else REPORTS.parent).as_posix(): path
        for path in files
    }
