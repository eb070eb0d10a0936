import io
import itertools

import numpy as np
import pytest

from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.balance import SheetRow, histogram, sheet


def bars(figure):
    originals, copies = figure.axes[0].containers
    return [b.get_height() for b in originals], [(b.get_y(), b.get_height()) for b in copies]


def test_histogram_stacks_copies_on_originals_most_frequent_first():
    figure = histogram(["a", "b", "c"], np.array([5, 20, 9]), np.array([15, 0, 11]))
    originals, copies = bars(figure)
    assert originals == [20, 9, 5]
    assert copies == [(20, 0), (9, 11), (5, 15)]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["b", "c", "a"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["original (34)", "synthetic (26)"]


@pytest.mark.parametrize(
    ("classes", "length", "named"),
    [(2, 30, 2), (20, 1, 20), (10, 30, 10), (100, 30, 100), (1000, 5, 0)],
)
def test_class_names_stand_where_they_fit(classes, length, named):
    figure = histogram(
        [f"{'n' * length} {number}" for number in range(classes)],
        np.arange(classes) + 1,
        np.zeros(classes, int),
    )
    figure.savefig(io.BytesIO())  # lays it out
    lying = figure.axes[0].get_xlabel() == "training images"
    assert lying == (classes in (10, 100))
    if not named:
        assert figure.axes[0].get_xlabel() == "1000 classes, most frequent first"
        return
    found = 0
    for axes in figure.axes:
        labels = axes.get_yticklabels() if lying else axes.get_xticklabels()
        found += len(labels)
        boxes = sorted(tuple(_extent(label)[:, int(lying)]) for label in labels)
        for (_, end), (start, _) in itertools.pairwise(boxes):
            assert end <= start
        assert min(_extent(label).min() for label in labels) >= 0
    assert found == named


def _extent(label):
    return label.get_window_extent().get_points()


def test_many_classes_share_one_scale():
    figure = histogram([str(i) for i in range(100)], np.arange(100), np.arange(100))
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [bar.get_width() for bar in left.containers[0]] == list(range(99, 49, -1))
    assert [bar.get_x() for bar in right.containers[1]] == list(range(49, -1, -1))


@pytest.mark.parametrize(
    ("dtype", "white"),
    # The last as heights in millimetres, which use few of 16 bits.
    [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 511)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_puts_each_original_before_its_copies(dtype, white, channels):
    original = np.full((4, 6, channels), white, dtype)
    rows = [
        SheetRow("a", original, np.stack([original // 2] * 3)),
        SheetRow("b", original, original[None] // 4),
    ]
    figure = sheet(rows)
    # A row is one picture of four cells, each 6 px wide with a gap of 1 px behind it.
    expected = [[1, 0.5, 0.5, 0.5], [1, 0.25, 1, 1]]
    for axes, levels in zip(figure.axes, expected, strict=True):
        (shown,) = (np.asarray(image.get_array()) for image in axes.images)
        assert shown.shape[:2] == (4, 4 * (6 + 1))
        cells = shown.reshape(4, 4, 7, -1)
        for column, level in enumerate(levels):
            assert cells[:, column, :6] == pytest.approx(level, abs=0.01)
        assert (cells[:, :, 6] == 1).all()
    assert [axes.texts[0].get_text() for axes in figure.axes if axes.texts] == ["a", "b"]


def test_names_are_not_read_as_formulas(tmp_path):
    names = ["cash $a_ $b^ $", "$\\frac$"]
    image = np.zeros((4, 4, 1), np.uint8)
    drawn = histogram(names, np.array([5, 2]), np.array([0, 3]))
    save(drawn, tmp_path / "histogram.png")
    assert [tick.get_text() for tick in drawn.axes[0].get_xticklabels()] == names
    save(sheet([SheetRow(name, image, image[None]) for name in names]), tmp_path / "sheet.png")


def test_a_long_name_keeps_both_ends():
    image = np.zeros((4, 4, 1), np.uint8)
    names = [
        "a name with a long middle and an end",
        f"a name with {'a long middle and ' * 9}an end",
    ]
    figure = sheet([SheetRow(name, image, image[None]) for name in names])
    whole, shortened = (axes.texts[0].get_text() for axes in figure.axes if axes.texts)
    assert whole.split() == names[0].split()
    assert shortened.startswith("a name with")
    assert "…" in shortened
    assert shortened.endswith("an end")
    assert shortened.count("\n") < 4


def test_a_sheet_without_rows_says_so():
    assert [text.get_text() for text in sheet([]).texts] == ["no copies were made"]


def test_the_same_picture_gives_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        save(histogram(["a", "b"], np.array([5, 2]), np.array([0, 3])), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
