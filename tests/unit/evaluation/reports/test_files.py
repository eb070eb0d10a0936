import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.files import read_report, write_report
from pipeline.evaluation.reports.history import History
from pipeline.evaluation.reports.schema import EvaluateReport, Figure, Part
from tests import reports

PATH = Path("reports/a.json")


class Row(Part):
    share: float | None


class Sheet(Part):
    name: str
    rows: tuple[Row, ...] = Field(min_length=1, max_length=2)
    counts: dict[str, int] | None = None
    first: Row | None = None
    found: bool = True
    kind: Literal["old", "new"] = "new"


def read(value, model=Sheet):
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_report(PATH, model)


@pytest.mark.parametrize("share", [1, 0.5, None])
def test_a_report_comes_back(share):
    found = read({"name": "a", "rows": [{"share": share, "more": "is welcome"}], "other": 3})
    assert (found.name, found.rows) == ("a", (Row(share=share),))
    write_report(PATH, found)
    assert read_report(PATH, Sheet) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is damaged (expected an object, found a list)"),
        ({"rows": []}, "lacks name"),
        ({"name": 3, "rows": [{"share": 1}]}, "is damaged (name: expected text, found a whole"),
        ({"name": "a", "rows": []}, "is damaged (rows: expected at least 1 items, found 0)"),
        (
            {"name": "a", "rows": [{"share": 1}] * 3},
            "is damaged (rows: expected at most 2 items, found more)",
        ),
        ({"name": "a", "rows": [{"share": 1}, {}]}, "lacks rows.1.share"),
        (
            {"name": "a", "rows": [{"share": True}]},
            "is damaged (rows.0.share: expected a number, found true or false)",
        ),
        (
            {"name": "a", "rows": [{"share": 1}], "counts": {"y": "2"}},
            "is damaged (counts.y: expected a whole number, found text)",
        ),
        (
            {"name": "a", "rows": [{"share": 1}], "counts": {"y": 2.5}},
            "is damaged (counts.y: expected a whole number, found a number)",
        ),
        (
            {"name": "a", "rows": [{"share": 1}], "first": []},
            "is damaged (first: expected an object, found a list)",
        ),
        (
            {"name": "a", "rows": {}},
            "is damaged (rows: expected a list, found an object)",
        ),
        (
            {"name": "a", "rows": [{"share": 1}], "found": "yes"},
            "is damaged (found: expected true or false, found text)",
        ),
        (
            {"name": "a", "rows": [{"share": 1}], "kind": "odd"},
            "is damaged (kind: expected 'old' or 'new', found 'odd')",
        ),
        ('{"name": "a", "rows": [{"share": NaN}]}', "is damaged (rows.0.share: expected a finite"),
        ('{"name": "a"', "is damaged (Invalid JSON: EOF"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(value, message):
    with pytest.raises(PipelineError) as caught:
        read(value)
    assert str(caught.value).startswith(f"reports/a.json {message}")
    assert str(caught.value).endswith("; delete it and run dvc repro")
    assert "\n" not in str(caught.value)


def test_a_report_that_is_missing():
    with pytest.raises(PipelineError, match=r"^reports/a\.json is missing; run dvc repro"):
        read_report(PATH, Sheet)


def test_reports_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        read({"name": "a", "rows": [{"share": 1}]}).name = "b"


def test_not_a_number_is_a_bug():
    with pytest.raises(ValueError, match="finite"):
        Figure(value=float("nan"), ci95=(0, 1))


def test_a_history_has_an_epoch():
    with pytest.raises(PipelineError, match=r"expected at least 1 items, found 0"):
        read([], History)
    with pytest.raises(PipelineError, match=r"lacks 0\.train_loss; delete"):
        read([{"epoch": 1}], History)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("base", "test"), "nll"),
        (("base", "test"), "macro_f1"),
        (("tuned", "calibration", "change"), "ece"),
        (("comparisons", "final_minus_base"), "brier"),
        (("comparisons",), "final_minus_tuned"),
    ],
)
def test_a_report_holds_each_metric_that_it_lists(place, name):
    report = reports.evaluate_report(("ant", "bee"), 8).model_dump(mode="json")
    part = report
    for key in place:
        part = part[key]
    del part[name]
    with pytest.raises(PipelineError) as caught:
        read(report, EvaluateReport)
    where = ".".join((*place, name))
    assert str(caught.value) == f"reports/a.json lacks {where}; delete it and run dvc repro"


def test_a_figure_of_another_kind_is_named():
    report = reports.evaluate_report(("ant", "bee"), 8).model_dump(mode="json")
    report["final"]["test"]["brier"]["value"] = "low"
    message = r"final\.test\.brier\.value: expected a number, found text"
    with pytest.raises(PipelineError, match=message):
        read(report, EvaluateReport)


@pytest.mark.parametrize("name", reports.SCHEMA)
def test_each_report_comes_back_as_it_was_written(name):
    page = reports.make_page(("ant", "bee"), 12, reports.met(("ant", "bee"), 12, 3.0, -3.0))
    PATH.parent.mkdir()
    write_report(PATH, getattr(page, name))
    assert read_report(PATH, reports.SCHEMA[name]) == getattr(page, name)
