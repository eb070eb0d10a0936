"""What the reports say of the trained models, for their runs in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.evaluation.registration.run_metrics import final_metrics, network_metrics
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.schema import EvaluateReport, TtaReport
from pipeline.params import Params
from pipeline.runtime.tracking.trained import Result
from pipeline.stages._paths import (
    FINAL,
    HISTORY,
    MAP,
    MODELS,
    NETWORK_REPORT,
    PICTURES,
    REPORTS,
)
from pipeline.stages._trained import trained

_LEARNING_CURVES = PICTURES / "evaluate" / "learning_curves.png"


@dataclass(frozen=True)
class Judged:
    """The trained models, and which of them ships.

    Attributes:
        results: by the names of their trainings' stages.
        shipped: the stage whose weights the final model has.
    """

    results: Mapping[str, Result]
    shipped: str


def judged_models(params: Params, evaluate: EvaluateReport) -> Judged:
    """Return both networks; the one that ships is the final model.

    Figures of the network as it was trained have the same names for both.

    Args:
        params: all that they were trained with.
        evaluate: reports/evaluate.json.
    """
    reports = {name: REPORTS / f"{name}.json" for name in ("evaluate", "tta")}
    tta = read_report(reports["tta"], TtaReport)
    pictures = sorted(PICTURES.rglob("*.png"))
    shown = [*pictures, *([MAP] if MAP.exists() else [])]
    stages = {"base": "train", "tuned": "finetune"}
    results = {}
    for network, stage in stages.items():
        ships = network == tta.network.name
        metrics = network_metrics(evaluate.models[network])
        few = [reports["evaluate"], NETWORK_REPORT, *({_LEARNING_CURVES} & {*pictures})]
        results[stage] = Result(
            params=params,
            trained=trained(params, stage),
            history=HISTORY / f"{network}.json",
            bundle=FINAL if ships else MODELS / network,
            metrics=metrics | final_metrics(evaluate, tta) if ships else metrics,
            files=_places([*reports.values(), NETWORK_REPORT, *shown] if ships else few),
        )
    return Judged(results, stages[tta.network.name])


def _places(files: list[Path]) -> Mapping[str, Path]:
    """Say where files go among a run's artifacts: reports/, or pictures/<stage>/."""
    return {
        path.relative_to(REPORTS if PICTURES in path.parents else REPORTS.parent).as_posix(): path
        for path in files
    }
