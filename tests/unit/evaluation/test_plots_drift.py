from datetime import UTC, datetime, timedelta

import numpy as np
from matplotlib.colors import to_rgba

from pipeline.evaluation.plots import to_png
from pipeline.evaluation.plots.drift import StrangeImage, draw_p_values, draw_strangest

START = datetime(2026, 1, 5, 3, tzinfo=UTC)


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_strange_images_are_shown_in_order_with_what_is_said_of_them():
    images = [np.full((8, 8, 1), 20 * i, np.uint8) for i in range(10)]
    shown = [
        StrangeImage(image, f"new/{i}.png", "ant", "ant" if i else "bee", 5.0 - i)
        for i, image in enumerate(images)
    ]
    figure = draw_strangest(shown, 40)
    assert len(figure.axes) == 10
    drawn = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert [round(255 * float(one.max())) for one in drawn] == list(range(0, 200, 20))
    titles = [axes.get_title() for axes in figure.axes]
    # The answer is named where it is not the label.
    assert titles[:2] == ["ant\n→ bee", "ant"]
    assert figure.axes[0].get_xlabel() == "+5.00\nnew/0.png"
    assert any(text.startswith("10 of 40 new images") for text in texts(figure))
    assert "No new images." in texts(draw_strangest([], 0))


def test_p_values_are_filled_where_they_alarm_and_left_out_where_there_are_none():
    times = [START + timedelta(days=7 * week) for week in range(4)]
    series = {"classifier": [0.5, 0.003, None, 0.02], "kernel": [None] * 4}
    figure = draw_p_values(times, series, 0.01)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    points = [
        line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata())
    ]
    face = {p: line.get_markerfacecolor() for line in points for p in line.get_ydata()}
    assert set(face) == {0.5, 0.003, 0.02}
    assert to_rgba(face[0.5]) == to_rgba(face[0.02]) == to_rgba("white")
    assert to_rgba(face[0.003]) != to_rgba("white")
    low, high = sorted(axes.get_ylim())
    assert low < 0.003
    assert high > 1
    # Small p-values are above.
    assert axes.yaxis_inverted()
    said = texts(figure)
    assert "alarm below 0.01" in said
    assert {"classifier", "kernel"} <= set(said)


def test_few_calls_are_drawn_too():
    assert to_png(draw_p_values([START], {"classifier": [0.4], "kernel": [None]}, 0.01))
    nothing = draw_p_values([START], {"classifier": [None]}, 0.01)
    assert any("enough new images" in text for text in texts(nothing))
    assert any("enough new images" in text for text in texts(draw_p_values([], {}, 0.01)))
