from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.schema import Each, Maybe, check_shape

PATH = Path("reports/a.json")
SHAPE = {"name": (str,), "rows": Each(list, {"share": (int, float, type(None))}, least=1, most=2)}


@pytest.mark.parametrize("share", [1, 0.5, None])
def test_what_has_the_shape_comes_back(share):
    value = {"name": "a", "rows": [{"share": share, "more": "is welcome"}], "other": 3}
    assert check_shape(value, SHAPE, PATH) is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is damaged (expected an object, found a list)"),
        ({"rows": []}, "lacks name"),
        ({"name": 3, "rows": []}, "is damaged (name: expected text, found a whole number)"),
        ({"name": "a", "rows": []}, "is damaged (rows: expected 1 to 2 items, found 0)"),
        ({"name": "a", "rows": [{}] * 3}, "is damaged (rows: expected 1 to 2 items, found 3)"),
        ({"name": "a", "rows": [{"share": 1}, {}]}, "lacks rows.1.share"),
        (
            {"name": "a", "rows": [{"share": True}]},
            "is damaged (rows.0.share: expected a whole number or a number or null, found true or"
            " false)",
        ),
    ],
)
def test_what_has_not_is_told_with_its_place(value, message):
    with pytest.raises(PipelineError) as caught:
        check_shape(value, SHAPE, PATH)
    assert str(caught.value) == f"reports/a.json {message}; delete it and run dvc repro"


def test_an_object_of_any_keys():
    shape = Each(dict, (int,))
    assert check_shape({"x": 1, "y": 2}, shape, PATH) == {"x": 1, "y": 2}
    with pytest.raises(PipelineError, match=r"y: expected a whole number, found text"):
        check_shape({"x": 1, "y": "2"}, shape, PATH)


def test_what_may_be_null_has_its_shape_otherwise():
    shape = {"champion": Maybe({"version": (str,)})}
    assert check_shape({"champion": None}, shape, PATH) == {"champion": None}
    assert check_shape({"champion": {"version": "1"}}, shape, PATH)
    with pytest.raises(PipelineError, match=r"champion\.version: expected text, found null"):
        check_shape({"champion": {"version": None}}, shape, PATH)
    with pytest.raises(PipelineError, match=r"champion: expected an object, found a list"):
        check_shape({"champion": []}, shape, PATH)
