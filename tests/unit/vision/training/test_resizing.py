import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.vision.training.building import build_network
from pipeline.vision.training.resizing import resize, small_until
from tests.jobs import job_on
from tests.unit.vision.training.trainers import ALL_STEPS, recipe, trainer

SMALL_FIRST = {"name": "progressive", "until": 0.5, "scale": 0.6}


def test_first_epochs_take_smaller_images():
    how = recipe(resizing=SMALL_FIRST, epochs=4)
    images = torch.rand(2, 3, 20, 15).contiguous(memory_format=torch.channels_last)
    shapes = [tuple(resize(images, how, epoch).shape[2:]) for epoch in range(4)]
    assert shapes == [(12, 9), (12, 9), (20, 15), (20, 15)]
    assert resize(images, how, 0).is_contiguous(memory_format=torch.channels_last)
    assert resize(images, recipe(), 0) is images
    # Of half the size each value is a mean of its place, with weights that fall to both sides.
    half = recipe(resizing=SMALL_FIRST | {"scale": 0.5}, epochs=4)
    plane = torch.arange(16.0).expand(1, 1, 16, 16)
    inner = resize(plane, half, 0)[0, 0, 3, 1:-1]
    assert inner.tolist() == pytest.approx([0.5 + 2 * place for place in range(1, 7)])


@pytest.mark.parametrize(("epochs", "until", "first"), [(10, 0.6, 6), (1, 0.6, 0), (2, 0.9, 1)])
def test_the_last_epoch_has_the_whole_size(epochs, until, first):
    assert small_until(recipe(epochs=epochs, resizing=SMALL_FIRST | {"until": until})) == first
    assert small_until(recipe(epochs=epochs)) == 0


def test_training_and_validation_see_their_sizes(sets):
    how = recipe(resizing=SMALL_FIRST, epochs=2, early_stopping=_STOPS_AT_ONCE)
    one = trainer(sets, how, "resnet20")
    seen = []

    def note(module, inputs):
        seen.append((module.training, inputs[0].shape[-1]))

    convolution = next(m for m in one.network.modules() if isinstance(m, nn.Conv2d))
    convolution.register_forward_pre_hook(note)
    one.advance(ALL_STEPS)
    steps = one.steps_per_epoch
    assert seen[:steps] == [(True, 10)] * steps
    assert {size for training, size in seen[steps:]} == {16}  # statistics of norms, validation
    seen.clear()
    one.advance(ALL_STEPS)
    assert {size for _, size in seen} == {16}


# Small images do not count: with a patience of 1 all epochs run as long as they last.
_STOPS_AT_ONCE = {"metric": "accuracy", "patience": 1, "min_delta": 1.0, "keep": "best"}


def test_epochs_of_small_images_are_no_reason_to_stop(sets):
    how = recipe(resizing=SMALL_FIRST, epochs=8, early_stopping=_STOPS_AT_ONCE)
    one = trainer(sets, how, "resnet20")
    while not one.done:
        one.advance(ALL_STEPS)
    assert one.state.epochs_done > 4


def test_a_network_of_one_size_refuses_others(sets):
    with pytest.raises(PipelineError, match=r"does not take images of 10 x 10 px.*resizing.name"):
        build_network(job_on(sets, recipe(resizing=SMALL_FIRST), "lenet5"))
    network, _ = build_network(job_on(sets, recipe(resizing=SMALL_FIRST), "resnet20"))
    assert network.training
