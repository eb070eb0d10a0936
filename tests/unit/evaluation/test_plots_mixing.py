import numpy as np

from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.examples import Partner, TrainingExample
from pipeline.evaluation.plots.mixing import draw_examples

IMAGE = np.zeros((8, 8, 1), np.uint8)


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def example(augmented=None, partner=None, target=(("ant", 1.0),)):
    return TrainingExample(IMAGE, "ant", augmented, partner, IMAGE, target)


def test_a_mixed_image_names_both_and_its_label(tmp_path):
    partner = Partner(IMAGE, "$bee_2$", "mixup", 0.7)
    target = (("ant", 0.66), ("$bee_2$", 0.28), ("crab", 0.04), ("dog", 0.02))
    figure = draw_examples([example(IMAGE, partner, target), example(IMAGE)])
    found = texts(figure)
    names = ("image", "augmented", "mixed with", "trained on, with this label")
    assert {*names, "$bee_2$", "mixup, 30% of this"} <= set(found)
    assert "ant: 0.66\n$bee_2$: 0.28\nothers: 0.06" in found
    # The second has no partner: its place stays empty.
    assert len(figure.axes) == 4 * 2 - 1
    save(figure, tmp_path / "a.png")


def test_rows_that_no_example_has_are_left_out():
    figure = draw_examples([example(IMAGE)] * 6)
    assert not {"augmented", "mixed with"} & set(texts(figure))
    assert len(figure.axes) == 2 * 6


def test_a_share_that_rounds_to_nothing_is_not_written():
    partner = Partner(IMAGE, "bee", "mixup", 0.999)
    found = texts(draw_examples([example(None, partner, (("ant", 0.999), ("bee", 0.001)))]))
    assert "ant: 1.00" in found
