import numpy as np
import pytest
from matplotlib.text import Text

from pipeline.evaluation.plots.latent import Shown, draw_outliers, draw_pairs, draw_similar


def shown(label, marked=False):
    return Shown(np.zeros((8, 8, 1), np.uint8), label, f"{label}/1.png", f"note {label}", marked)


def texts(figure):
    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


def frames(figure):
    return [axes.spines["left"].get_visible() for axes in figure.axes]


def test_pairs_stand_together_below_the_title_of_their_row():
    pairs = [(shown(f"a{i}", i == 0), shown(f"b{i}")) for i in range(4)]
    figure = draw_pairs("all of them", [("first", pairs), ("second", []), ("third", pairs[:1])], "")
    found = texts(figure)
    assert [text for text in found if text in ("all of them", "first", "second", "third")] == [
        "all of them",
        "first",
        "third",
    ]
    assert len(figure.axes) == 10
    assert frames(figure) == [True, *[False] * 7, True, False]
    left = [axes.get_position().x0 for axes in figure.axes[:6]]
    # Three pairs in a row, an empty place between two.
    assert np.diff(left) == pytest.approx(np.array([1, 2, 1, 2, 1]) * (left[1] - left[0]))
    assert "note b3\nb3/1.png" in found
    assert texts(draw_pairs("heading", [("first", [])], "nothing here")) == ["nothing here"]


def test_given_images_stand_before_what_is_near_them():
    figure = draw_similar([(shown(""), [shown(f"c{i}") for i in range(7)])], "heading")
    assert frames(figure) == [True, *[False] * 7]
    rows = [axes.get_position().y0 for axes in figure.axes]
    assert rows[:6] == pytest.approx(rows[:1] * 6)
    assert rows[6] < rows[5] - 0.1
    # The second row begins below the first neighbour.
    left = [axes.get_position().x0 for axes in figure.axes]
    assert left[6] == pytest.approx(left[1])


def test_outliers_are_framed():
    assert frames(draw_outliers([shown("a", True), shown("b")], "heading")) == [True, False]
    assert "No class has enough" in texts(draw_outliers([], "heading"))[0]
