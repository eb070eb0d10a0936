import itertools

import numpy as np
import pytest
from matplotlib.text import Text

from pipeline.evaluation.metrics.precision_recall import Curve
from pipeline.evaluation.metrics.scores import Reliability
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots._labels import place_labels
from pipeline.evaluation.plots._text import all_named, ending, named, width_of, wrapped
from pipeline.evaluation.plots.confusion import draw_confusion
from pipeline.evaluation.plots.curves import draw_learning_curves
from pipeline.evaluation.plots.map import draw_map
from pipeline.evaluation.plots.precision_recall import draw_precision_recall
from pipeline.evaluation.plots.reliability import Series, draw_reliability
from pipeline.evaluation.plots.sheets import (
    Mistake,
    Neighbour,
    draw_mistakes,
    draw_neighbours,
    draw_suspects,
    most_confident_mistakes,
)
from pipeline.evaluation.reports.history import Epoch


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_long_names_keep_both_ends():
    assert named("ant", 50, 8) == "ant"
    short = named("species of the north 042", 80, 8)
    assert short.startswith("specie")
    assert short.endswith(" 042")
    assert width_of(short, 8) <= 80
    longer = named("species of the north 042", 80, 8, around="→ , 64%")
    assert width_of("→ " + longer + ", 64%", 8) <= 81
    assert named("WWWWWWWWWWWW", 1, 8) == "W…W"
    for name in ("Turdus merula - first winter 12", "Turdus_merula_first_winter_12"):
        kept = named(name, 90, 8).split("…")
        assert name.startswith(kept[0])
        assert name.endswith(kept[1])
        # Whole words: what is left out begins and ends where words do.
        assert not name.removeprefix(kept[0])[0].isalnum()
        assert not name.removesuffix(kept[1])[-1].isalnum()
    path = ending("a/very/deep/path/to/0042.png", 60, 7)
    assert path.startswith("…")
    assert path.endswith("/0042.png")
    assert width_of(path, 7) <= 60


def test_names_of_one_length_keep_as_much_as_fits():
    """What is kept is measured, not counted: an i is narrower than a W."""
    assert len(named("i" * 100, 60, 8)) > 2 * len(named("W" * 100, 60, 8))


def test_names_that_begin_alike_are_told_apart():
    names = [f"hand sign of the number {n}, {c}" for n in ("five", "six") for c in ("blue", "grey")]
    shown = all_named(names, 80, 8)
    assert shown == ["…five, blue", "…five, grey", "…six, blue", "…six, grey"]
    assert all_named(["ant", "antelope"], 80, 8) == ["ant", "antelope"]
    assert all_named(names[:1], 80, 8) == [named(names[0], 80, 8)]


def test_names_are_wrapped_between_words():
    lines = wrapped("bacterial pneumonia of the left lobe", 100, 8)
    assert lines == ["bacterial pneumonia of", "the left lobe"]
    assert wrapped("ant", 80, 8, before="→ ", after=", 64%") == ["→ ant, 64%"]
    long = wrapped("pneumonia_" * 20 + "end", 80, 8, before="→ ", after=", 64%")
    assert long == ["→ pneumonia…", "end, 64%"]
    assert all(width_of(line, 8) <= 80 for line in long)


def assert_apart(labels, axis):
    """No label of an axis begins before the one beside it has ended."""
    boxes = sorted(tuple(label.get_window_extent().get_points()[:, axis]) for label in labels)
    assert len(boxes) > 1
    for (_, end), (start, _) in itertools.pairwise(boxes):
        assert end <= start


@pytest.mark.parametrize("length", [1, 60])
@pytest.mark.parametrize("classes", [2, 10, 20, 100])
def test_names_beside_a_matrix_stay_apart_and_in_the_picture(tmp_path, classes, length):
    names = [f"{'W' * length}{i}" for i in range(classes)]
    figure = draw_confusion(np.eye(classes, dtype=int), names)
    save(figure, tmp_path / "a.png")
    axes = figure.axes[0]
    assert_apart(axes.get_xticklabels(), axis=0)
    assert_apart(axes.get_yticklabels(), axis=1)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        (left, bottom), _ = label.get_window_extent().get_points()
        assert left >= 0
        assert bottom >= 0


@pytest.mark.parametrize("classes", [2, 10, 20])
def test_few_classes_have_numbers_in_their_cells(tmp_path, classes):
    figure = draw_confusion(
        np.diag(np.arange(100, 100 + classes)), [f"c{i}" for i in range(classes)]
    )
    assert "100" in texts(figure)
    save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("classes", [21, 100, 300])
def test_many_classes_have_colours_only(tmp_path, classes):
    figure = draw_confusion(
        np.diag(np.arange(1000, 1000 + classes)), [f"c{i}" for i in range(classes)]
    )
    assert "1000" not in texts(figure)
    save(figure, tmp_path / "a.png")
    assert_apart(figure.axes[0].get_yticklabels(), axis=1)
    assert_apart(figure.axes[0].get_xticklabels(), axis=0)


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path):
    names = [r"$\frac{1", "a_b^c$"]
    save(draw_confusion(np.eye(2, dtype=int), names), tmp_path / "a.png")
    save(draw_map(np.eye(2), np.array([0, 1]), names, "title"), tmp_path / "b.png")
    image = np.zeros((4, 4, 1), np.uint8)
    save(draw_mistakes([Mistake(image, names[0], *names, 0.9)], 1), tmp_path / "c.png")
    row = (Neighbour(image, names[0], None), [Neighbour(image, names[1], 0.5)])
    save(draw_neighbours([row]), tmp_path / "d.png")


def test_equal_figures_give_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        save(draw_confusion(np.eye(3, dtype=int), ["x", "y", "z"]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_learning_curves_mark_the_epoch_that_was_kept(tmp_path):
    """It need not have the lowest loss, where patience watches accuracy or a loss came late."""
    epochs = [
        Epoch(epoch=i, train_loss=1 / i, val_loss=i, val_accuracy=0.5, kept=i == 3)
        for i in range(1, 6)
    ]
    figure = draw_learning_curves({"first training": epochs, "fine-tuning": epochs[2:3]})
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_label() == "kept"]
        assert [list(line.get_xdata()) for line in marks] == [[3, 3]]
    save(figure, tmp_path / "a.png")


def test_reliability_leaves_out_empty_bins(tmp_path):
    bins = Reliability(np.array([0, 4]), np.array([np.nan, 0.8]), np.array([np.nan, 0.75]))
    figure = draw_reliability(
        [Series("as trained", bins, "red", "o"), Series("$T = 2$", bins, "blue", "s")]
    )
    assert {"as trained", "$T = 2$", "perfectly calibrated"} <= set(texts(figure))
    assert [list(line.get_xdata()) for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    save(figure, tmp_path / "a.png")


def test_most_confident_mistakes_first():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.4, 0.6]])
    assert most_confident_mistakes(labels, probabilities, 5).tolist() == [2, 1]
    assert most_confident_mistakes(labels, probabilities, 1).tolist() == [2]


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint16)])
def test_mistakes_name_path_and_classes(tmp_path, count, channels, dtype):
    image = np.zeros((5, 7, channels), dtype)
    figure = draw_mistakes([Mistake(image, "a/1.png", "ant", "bee", 0.987)] * count, 40)
    found = texts(figure)
    assert found.count("ant\n→ bee, 99%") == found.count("a/1.png") == count
    assert f"{count} of 40 mistakes, the most confident first: true → said" in found
    save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(30, 60, 3), (60, 30, 1), (9, 9, 3)])
@pytest.mark.parametrize("count", [1, 8])
def test_all_of_a_sheet_lies_inside_it_and_nothing_upon_another(tmp_path, shape, count):
    name, path = "a class with a long name " * 3, "a/long/way/down/to/" * 3 + "0042.png"
    mistake = Mistake(np.zeros(shape, np.uint8), path, name, name, 0.987)
    figure = draw_mistakes([mistake] * count, 40)
    save(figure, tmp_path / "a.png")
    shown = [text for text in figure.findobj(Text) if text.get_text()]
    assert len(shown) == 1 + 2 * count
    boxes = [text.get_window_extent() for text in shown]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 1 + 3 * count
    for row, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.padded(-2).overlaps(other.padded(-2)) for other in boxes[:row])


def test_no_mistakes(tmp_path):
    figure = draw_mistakes([], 0)
    assert "No mistakes on the test set." in texts(figure)
    save(figure, tmp_path / "a.png")


def test_neighbours_are_marked_right_or_wrong(tmp_path):
    image = np.zeros((4, 4, 1), np.uint8)
    near = [Neighbour(image, "ant", 0.9), Neighbour(image, "bee", 0.8)]
    figure = draw_neighbours([(Neighbour(image, "ant", None), near)])
    found = texts(figure)
    assert found.count("ant") == 2
    assert {"query", "✓ 0.900", "bee", "✗ 0.800"} <= set(found)
    save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_map_names_every_class_that_has_points(tmp_path, classes):
    points = np.random.default_rng(0).normal(size=(classes * 3, 2))
    names = [f"c{i}" for i in range(classes + 1)]
    figure = draw_map(points, np.arange(classes * 3) % classes, names, "title")
    assert set(names[:-1]) <= set(texts(figure))
    assert names[-1] not in texts(figure)
    save(figure, tmp_path / "a.png")


def test_map_of_many_classes_names_the_hundred_largest():
    counts = np.where(np.arange(1000) % 10 == 7, 2, 1)  # a hundred classes have two points
    labels = np.repeat(np.arange(1000), counts)
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    figure = draw_map(points, labels, [f"c{i}" for i in range(1000)], "title")
    assert {text for text in texts(figure) if text.startswith("c")} == {
        f"c{i}" for i in range(1000) if i % 10 == 7
    }
    drawn = [part.get_offsets() for part in figure.axes[0].collections]
    assert sum(map(len, drawn)) == len(labels)  # those without a name are there


def box(middle, size):
    return np.concatenate([middle - size / 2, middle + size / 2])


def test_labels_lie_upon_each_other_only_where_there_is_no_room():
    anchors = np.full((40, 2), 200.0)
    sizes = np.tile([60.0, 10.0], (40, 1))
    boxes = [box(*row) for row in zip(place_labels(anchors, sizes, (400, 400)), sizes, strict=True)]
    for row, one in enumerate(boxes):
        assert (one >= 0).all()
        assert (one <= 400).all()
        for other in boxes[:row]:
            apart = (one[:2] >= other[2:] - 1e-9) | (other[:2] >= one[2:] - 1e-9)
            assert apart.any()
    # The first stands right above what it names.
    assert boxes[0].tolist() == [170, 202, 230, 212]
    crowded = place_labels(anchors[:3], sizes[:3], (60, 10))
    assert crowded.tolist() == [[30, 5]] * 3


def test_suspects_name_given_and_suggested_class(tmp_path):
    image = np.zeros((5, 7, 1), np.uint8)
    figure = draw_suspects([Mistake(image, "a/1.png", "ant", "bee", 0.987)], 40)
    found = texts(figure)
    assert "ant\nor bee, 99%" in found
    heading = "1 of 40 suspicious labels, the most suspicious first: label, or rather"
    assert heading in found
    save(figure, tmp_path / "a.png")
    assert "No label looks wrong." in texts(draw_suspects([], 0))


@pytest.mark.parametrize(
    ("classes", "listed"), [(1, ["0"]), (2, ["0", "1"]), (100, ["0", "1", "2", "97", "98", "99"])]
)
def test_the_worst_and_the_best_curves_have_names(tmp_path, classes, listed):
    names = [f"_{i}$" for i in range(classes)]
    curve = Curve(np.array([0.5, 1.0]), np.array([1.0, 0.7]), np.array([0.9, 0.2]))
    nothing = Curve(*[np.empty(0)] * 3)
    figure = draw_precision_recall(
        dict.fromkeys(names, curve) | {"absent": nothing},
        {name: 0.001 * i for i, name in enumerate(names)} | {"absent": None},
        "title",
    )
    found = [text.split("  ") for text in dict.fromkeys(texts(figure)) if "  " in text]
    assert [name for _, name in found] == [f"_{i}$" for i in listed]
    assert len(figure.axes[0].lines) == classes
    assert ("94 between" in texts(figure)) == (classes == 100)
    save(figure, tmp_path / "a.png")
