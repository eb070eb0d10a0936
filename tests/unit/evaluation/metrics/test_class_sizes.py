import numpy as np
import pytest

from pipeline.evaluation.metrics.class_sizes import by_class_size
from pipeline.evaluation.metrics.scores import answers

# Five classes: test images, of which a model has so many right; the last class has none.
SUPPORT, RIGHT = (10, 20, 40, 8, 0), (9, 10, 10, 2, 0)
TRAINING = np.array([5000, 1000, 999, 99, 50])


def model(right=RIGHT):
    labels = np.repeat(np.arange(5), SUPPORT)
    predicted = np.concatenate(
        [
            [c] * r + [(c + 1) % 4] * (n - r)
            for c, (n, r) in enumerate(zip(SUPPORT, right, strict=True))
        ]
    ).astype(int)
    return answers(labels, np.eye(5)[predicted] * 0.9 + 0.02)


def wilson(share, images, z=1.959964):
    """Wilson 1927, for a share of so many images."""
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    arm = z * np.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2) / (1 + z**2 / images)
    return middle - arm, middle + arm


def test_mean_recall_of_classes_of_like_size():
    groups = by_class_size(TRAINING, {"base": model(), "final": model(SUPPORT)})
    assert [(g.name, g.classes, g.fewest, g.most) for g in groups] == [
        ("many", 2, 1000, 5000),
        ("medium", 1, 999, 999),
        ("few", 1, 99, 99),
    ]
    assert [g.recall["base"]["value"] for g in groups] == pytest.approx([0.7, 0.25, 0.25])
    assert [g.recall["final"]["value"] for g in groups] == [1.0, 1.0, 1.0]
    # Of one class the interval is that of its images; of two, that of 4 / (1/10 + 1/20) of them.
    for group, share, images in zip(groups, (0.7, 0.25, 0.25), (80 / 3, 40, 8), strict=True):
        assert group.recall["base"]["ci95"] == pytest.approx(wilson(share, images), abs=1e-6)


def test_classes_of_one_group_are_not_grouped():
    assert by_class_size(np.array([90, 50, 10, 10, 10]), {"base": model()}) == []
    assert by_class_size(np.array([90, 50, 10, 10, 500]), {"base": model()}) == []
