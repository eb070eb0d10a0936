from datetime import UTC, datetime

import numpy as np

from pipeline.evaluation.plots.drift import StrangeImage, draw_strangest

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
