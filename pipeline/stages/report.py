"""One self-contained page that a person opens."""

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import some
from pipeline.evaluation.page import Page, Recipe, count_split, find_pictures, render
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.images import BalanceReport, DataReport, SuspiciousReport
from pipeline.evaluation.reports.latent import RetrieveReport
from pipeline.evaluation.reports.localize import LocalizeReport
from pipeline.evaluation.reports.network import NetworkReport
from pipeline.evaluation.reports.schema import (
    BaselineReport,
    EvaluateReport,
    TtaReport,
)
from pipeline.evaluation.retraining.history import Rows
from pipeline.evaluation.retraining.record import CALLS_FILE
from pipeline.files import atomic_path, damaged
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.recipes.kept import kept_choice
from pipeline.recipes.params_form import in_words, params_form
from pipeline.stages._paths import (
    DATA_REPORT,
    NETWORK_REPORT,
    PACKED,
    PICTURES,
    REPORTS,
    RETRAINING,
    SPLIT,
)

_REGISTER = REPORTS / "register.json"


def run(params: Params) -> None:
    """Write reports/index.html from the reports and pictures of all stages."""
    table = read_table(SPLIT, ["label", "split"])
    labels, splits = table["label"].to_pylist(), table["split"].to_pylist()
    if strange := set(splits) - {"train", "val", "test"}:
        raise damaged(SPLIT, f"expected splits train, val and test, found {some(strange, 1)}")
    register = read_report(_REGISTER, RegisterReport)
    page = Page(
        title=params.report.title,
        data=read_report(DATA_REPORT, DataReport),
        balance=read_report(REPORTS / "balance.json", BalanceReport),
        baseline=read_report(REPORTS / "baseline.json", BaselineReport),
        evaluate=read_report(REPORTS / "evaluate.json", EvaluateReport),
        suspicious=read_report(REPORTS / "suspicious.json", SuspiciousReport),
        tta=read_report(REPORTS / "tta.json", TtaReport),
        localize=read_report(REPORTS / "localize.json", LocalizeReport),
        retrieve=read_report(REPORTS / "retrieve.json", RetrieveReport),
        network=read_report(NETWORK_REPORT, NetworkReport),
        register=register,
        recipe=_recipe(),
        calls=read_report(RETRAINING / CALLS_FILE, Rows),
        split=count_split(labels, splits),
        pictures=find_pictures(PICTURES, RETRAINING) | _disagreements(register),
    )
    target = REPORTS / "index.html"
    with atomic_path(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB")


def _recipe() -> Recipe:
    """Return how the networks were trained, and why so."""
    sections, record = {}, None
    for stage in ("train", "finetune"):
        recipe, record = kept_choice(stage)
        sections[stage] = recipe.model_dump(mode="json")
    text = params_form(sections)
    if record is None:
        return Recipe(text)
    planned = "" if record["seconds"] is None else in_words(record["seconds"])
    return Recipe(text, record["name"], record["reason"], planned)


def _disagreements(register: RegisterReport) -> dict[str, bytes]:
    """Draw the images that changed sides against the champion, as 'report/disagreements'.

    Raises:
        PipelineError: register.json lists images that packed/test does not have.
    """
    found = register.disagreements
    if not found or not found.listed:
        return {}
    from pipeline.evaluation.plots import to_png
    from pipeline.evaluation.plots.disagreements import draw_disagreements

    images = ImageSet.open(PACKED / "test")
    for one in found.listed:
        if not 0 <= one.row < len(images) or images.paths[one.row] != one.path:
            what = f"disagreements: {one.path} is not row {one.row} of {PACKED / 'test'}"
            raise damaged(_REGISTER, what)
    shown = images.gather(np.array([one.row for one in found.listed], dtype=np.int64))
    total = found.mended + found.spoiled
    figure = draw_disagreements(found.listed, list(shown), total, ("was", "now"))
    return {"report/disagreements": to_png(figure)}
