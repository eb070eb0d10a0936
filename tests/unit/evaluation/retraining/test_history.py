import pytest

from pipeline.evaluation.plots import to_png
from pipeline.evaluation.plots.retraining import draw_history
from pipeline.evaluation.retraining.history import Row, Rows, champions, rows_of
from tests.calls import make_call, year


def test_calls_with_nothing_to_do_in_a_row_are_one_row():
    rows = rows_of([*year(), make_call(7), make_call(8), make_call(9)])
    assert [(row.call.outcome, row.calls) for row in rows] == [
        ("promoted", 1),
        ("nothing", 2),
        ("promoted", 1),
        ("refused", 1),
        ("held", 1),
        ("failed", 1),
        ("promoted", 1),
        ("nothing", 3),
    ]
    assert rows[1].call.id == "call-1.5"
    assert rows_of([]) == []


def test_a_training_that_changed_nothing_is_a_row_of_its_own():
    calls = [make_call(1), make_call(2, trained=True), make_call(3)]
    assert [row.calls for row in rows_of(calls)] == [1, 1, 1]


def test_a_refusal_is_explained_by_the_gate_and_all_else_by_its_reasons():
    refused, held = (row for row in rows_of(year()) if row.call.outcome in ("refused", "held"))
    assert refused.why == "macro-F1 fell by 0.02"
    assert held.why == "the class <b>wasp</b> is new"


def test_a_champion_keeps_its_figure_until_it_is_measured_again():
    calls = [
        make_call(0, "promoted", value=0.9),
        make_call(1),
        make_call(2, "promoted", value=0.92, version="2"),
        make_call(3, champion={"version": "3", "value": None}),
    ]
    assert [(version, figure and figure.value) for _, version, figure in champions(calls)] == [
        ("1", 0.9),
        ("1", 0.9),
        ("2", 0.92),
        ("3", None),
    ]


def test_rows_come_back_from_json():
    rows = Rows(tuple(rows_of(year())))
    assert Rows.model_validate_json(rows.model_dump_json()) == rows


@pytest.mark.parametrize(
    "calls",
    [
        year(),
        [make_call(0)],
        [make_call(0, "failed", changes=None, champion=None)],
        [make_call(0, changes=make_call(0).changes.model_copy(update={"classes": {}}))],
        [Row(call=make_call(0, "promoted", value=0.5)).call] * 2,
    ],
)
def test_every_history_can_be_drawn(calls):
    assert to_png(draw_history(calls)).startswith(b"\x89PNG")


def test_a_history_of_many_classes_can_be_drawn():
    classes = {f"$class_{i}$ 日本": i + 1 for i in range(300)}
    calls = [make_call(0, changes=make_call(0).changes.model_copy(update={"classes": classes}))]
    assert to_png(draw_history(calls)).startswith(b"\x89PNG")
