import math

import pytest

from pipeline.vision.training.symptoms import loud_start, one_class


def test_a_first_loss_near_that_of_a_guess_is_nothing_to_speak_of():
    assert loud_start(math.log(10) + 1.9, 10, head_loaded=True) is None


@pytest.mark.parametrize(
    ("head_loaded", "cause"), [(True, "weights may be for other classes"), (False, "optimizer.lr")]
)
def test_a_loud_first_loss_names_what_it_may_come_from(head_loaded, cause):
    text = loud_start(8.3, 10, head_loaded)
    assert text.startswith("warning: the first loss is 8.3, that of a guess 2.3;")
    assert cause in text


def test_one_class_for_everything_names_likely_causes():
    record = {"epoch": 3, "val_predicted_classes": 1.0}
    assert one_class(record, 4).startswith("warning: epoch 3, which is kept, predicts one class")
    assert one_class(record, 1) is None
    assert one_class(record | {"val_predicted_classes": 2.0}, 4) is None
