import numpy as np

from pipeline.evaluation.judging.disagreements import find_disagreements
from pipeline.evaluation.judging.findings import Disagreement, Disagreements
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.disagreements import draw_disagreements


def test_disagreements_by_hand(tmp_path):
    labels = np.array([0, 0, 1, 1])
    first = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    second = np.array([[0.8, 0.2], [0.6, 0.4], [0.9, 0.1], [0.55, 0.45]])
    found = find_disagreements(labels, first, second, ("a", "b"), ["0", "1", "2", "3"])
    # Row 0 is right twice, row 2 wrong twice; the surest wrong answer comes first.
    assert [(one.path, one.mended) for one in found] == [("1", True), ("3", False)]
    one = found[1]
    assert (one.true, one.first, one.second) == ("b", "b", "a")
    assert (one.first_probability, one.second_probability) == (0.8, 0.55)
    images = [np.zeros((8, 8, 1), np.uint8)] * 2
    for shown in (found, []):
        save(draw_disagreements(shown, images[: len(shown)], 2, ("A", "B")), tmp_path / "sheet.png")
        assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_report_lists_what_was_spoiled_first():
    found = [Disagreement(row, f"{row}.png", "a", *said) for row, said in enumerate(SAID)]
    shown = Disagreements.of(found, 1)
    assert (shown.mended, shown.spoiled) == (1, 2)
    assert shown.listed == (found[1], found[0])


SAID = (("b", 0.9, "a", 0.8), ("a", 0.6, "b", 0.7), ("a", 0.6, "b", 0.5))
