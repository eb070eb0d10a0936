import pytest

from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.lr_range import draw_lr_range

RATES = [1e-4, 1e-3, 1e-2, 1e-1]


def draw(suggestion=1e-3, losses=(2.0, 1.0, 0.5, 80.0), smoothed=(2.0, 1.5, 1.0, 40.0)):
    return draw_lr_range(RATES, list(losses), list(smoothed), suggestion, "train: $net")


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_both_losses_are_drawn_over_a_logarithmic_rate(tmp_path):
    figure = draw()
    assert figure.axes[0].get_xscale() == "log"
    drawn = lines(figure)
    assert list(drawn["smoothed"].get_ydata()) == [2.0, 1.5, 1.0, 40.0]
    assert list(drawn["loss of each batch"].get_xdata()) == RATES
    save(figure, tmp_path / "a.png")


def test_the_suggestion_is_marked():
    assert list(lines(draw(0.00123))["suggestion: 0.001"].get_xdata()) == [0.00123] * 2


def test_no_suggestion_no_mark(tmp_path):
    figure = draw(None)
    assert set(lines(figure)) == {"loss of each batch", "smoothed"}
    save(figure, tmp_path / "a.png")


def test_the_fall_fills_the_picture_however_high_the_loss_climbs_later():
    assert draw().axes[0].get_ylim() == pytest.approx((0, 2.3))


def test_a_single_point(tmp_path):
    save(draw_lr_range([0.1], [2.0], [2.0], None, "train"), tmp_path / "a.png")
