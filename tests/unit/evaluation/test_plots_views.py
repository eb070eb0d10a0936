import pytest

from pipeline.evaluation.metrics.table import metric_named
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.views import draw_views
from pipeline.evaluation.reports.schema import MetricInfo, Step
from tests import reports

METRIC = MetricInfo.model_validate(vars(metric_named("macro_f1")))
VIEWS = ["identity", "hflip", "rotate -7"]


def gains(block, value, mended, spoiled):
    figure = {"value": value, "ci95": [value - 0.02, value + 0.03]}
    gain = block["gain"] | {"macro_f1": figure}
    return block | {"gain": gain, "mended": mended, "spoiled": spoiled}


def steps(count, speed=100.0):
    """Step i gains i / 100 on validation images, where it mends 3 i and spoils i; half on test."""
    step = reports.tta_report(("ant", "bee"), 8).steps[0].model_dump()
    step["cost"]["images_per_s"] = speed
    return [
        Step.model_validate(
            gains(step, i / 200, i, 0)
            | {"views": VIEWS[: i + 1]}
            | {"validation": gains(step["validation"], i / 100, 3 * i, i)}
        )
        for i in range(count)
    ]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_gains_and_changes_of_each_step(tmp_path):
    figure = draw_views(steps(3), 2, METRIC)
    gained, changed = figure.axes
    assert labels(gained) == ["identity   1", "hflip   2", "rotate -7   3"]
    on_validation, on_test = (container.lines[0] for container in gained.containers)
    assert list(on_validation.get_xdata()) == pytest.approx([0, 0.01, 0.02])
    assert list(on_test.get_xdata()) == pytest.approx([0, 0.005, 0.01])
    (spans,) = (bars.get_segments() for bars in gained.containers[0].lines[2])
    assert spans[1][:, 0] == pytest.approx([-0.01, 0.04])
    bars = [[bar.get_width() for bar in container] for container in changed.containers]
    assert bars == [[0, 3, 6], [0, -1, -2], [0, 1, 2], [0, 0, 0]]
    save(figure, tmp_path / "a.png")


def test_the_metric_that_decides_is_drawn():
    accuracy = MetricInfo.model_validate(vars(metric_named("accuracy")))
    drawn = steps(3)
    gained, _ = draw_views(drawn, 0, accuracy).axes
    assert gained.get_title(loc="left") == "gain in accuracy, with 95 % intervals"
    expected = [step.validation.gain.figures["accuracy"].value for step in drawn]
    assert list(gained.containers[0].lines[0].get_xdata()) == expected
    assert expected != [step.validation.gain.macro_f1.value for step in drawn]


@pytest.mark.parametrize(
    ("chosen", "said"), [(0, "the image as it is, chosen"), (2, "chosen"), (3, "chosen")]
)
def test_what_was_chosen_is_marked(chosen, said):
    figure = draw_views(steps(3), chosen, METRIC)
    assert said in [text.get_text() for text in figure.legends[0].get_texts()]
    weights = [label.get_fontweight() for label in figure.axes[0].get_yticklabels()]
    assert [row for row, weight in enumerate(weights, 1) if weight == "bold"] == [chosen][:chosen]
    for axes in figure.axes:
        spans = [patch for patch in axes.patches if patch.get_height() == 1]
        assert [patch.get_y() + 0.5 for patch in spans] == [chosen][:chosen]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equal_gains_give_equal_files_whatever_they_cost(tmp_path, count):
    for name, speed in (("a.png", 100.0), ("b.png", 50.0)):
        save(draw_views(steps(count, speed), 0, METRIC), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
