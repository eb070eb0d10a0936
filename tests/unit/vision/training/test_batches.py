import numpy as np
import pytest
import torch

from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.batches import (
    Batches,
    Share,
    compose,
    map_ahead,
    own_rows,
    starts_at,
)
from pipeline.vision.training.sampling import count_steps
from pipeline.vision.training.sources import MappedPixels, PixelTransform
from tests.jobs import RECIPE
from tests.packed import BARS, bars, write_set

ALONE = Share()
CPU = torch.device("cpu")
AUGMENT = [{"hflip": {"p": 0.5}}, {"crop": {"padding": 2}}, {"noise": {"std": 0.1}}]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), *bars(53), BARS)


def recipe(**changes):
    values = RECIPE.model_dump(mode="json") | {"seed": 3, "global_batch_size": 16} | changes
    return type(RECIPE).model_validate(values, strict=False)


def draws(images, share=ALONE, epoch=0, first_step=0, **changes):
    """Compose this worker's batches of an epoch: (inputs, targets, global size) each."""
    how = recipe(**changes)
    augment = build_augment(how.augment, (16, 16, 1)) if how.augment else None
    unchanged = Normalization.of((0.0,), (1.0,), CPU)
    source = MappedPixels(images, PixelTransform.of(images.info, unchanged, augment), pin=False)
    stream = Batches(source, how, augment, (16, 16)).stream(share, epoch, first_step)
    return [(*compose(plan, source, torch.eye(3), CPU), plan.global_size) for plan in stream]


def test_an_epoch_holds_every_row_once(images):
    found = torch.cat([inputs for inputs, _, _ in draws(images)])
    assert [len(inputs) for inputs, _, _ in draws(images)] == [14, 13, 13, 13]
    expected = torch.from_numpy(images.gather(np.arange(53))).permute(0, 3, 1, 2) / 255
    key = [torch.tensor(sorted(tensor.double().sum((1, 2, 3)))) for tensor in (found, expected)]
    assert torch.allclose(*key, atol=1e-4)


def test_epochs_differ_and_repeat(images):
    first, again, second = (
        torch.cat([inputs for inputs, _, _ in draws(images, epoch=epoch)]) for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixup_alpha": 0.5},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 0.5, "cutmix_alpha": 1.0, "augment": AUGMENT},
        {"sampler": {"name": "balanced", "start": 0.0}},
    ],
)
def test_workers_together_see_the_batches_of_one(images, workers, changes):
    alone = draws(images, **changes)
    shares = [draws(images, Share(rank, workers), **changes) for rank in range(workers)]
    for step, (inputs, targets, size) in enumerate(alone):
        for rank, share in enumerate(shares):
            own_inputs, own_targets, own_size = share[step]
            assert own_size == size
            assert torch.allclose(own_inputs, inputs[rank::workers], atol=1e-6)
            assert torch.equal(own_targets, targets[rank::workers])


def test_a_stream_opened_in_the_middle_goes_on_as_the_whole_one(images):
    changes = {"mixup_alpha": 0.5, "cutmix_alpha": 1.0, "augment": AUGMENT}
    whole, rest = draws(images, **changes), draws(images, first_step=2, **changes)
    assert len(rest) == len(whole) - 2
    for (inputs, targets, _), (found, found_targets, _) in zip(whole[2:], rest, strict=True):
        assert torch.equal(inputs, found)
        assert torch.equal(targets, found_targets)


def test_mixup_recomputed(images):
    plain, plain_targets, _ = draws(images)[1]
    mixed, targets, _ = draws(images, mixup_alpha=0.5, mix_partners="other_classes")[1]
    # Each target holds two classes; the image is the same mixture of two of the batch.
    lam = (targets * plain_targets).sum(1)
    for row in range(len(mixed)):
        rest = mixed[row] - lam[row] * plain[row]
        distance = ((1 - lam[row]) * plain - rest).abs().amax(dim=(1, 2, 3))
        partner = int(distance.argmin())
        assert distance[partner] < 1e-5
        other = plain_targets[partner].argmax()
        assert other != plain_targets[row].argmax()
        assert targets[row, other] == pytest.approx(1 - float(lam[row]), abs=1e-6)


def test_cutmix_recomputed(images):
    plain, plain_targets, _ = draws(images)[1]
    cut, targets, _ = draws(images, cutmix_alpha=1.0, mix_partners="other_classes")[1]
    assert (targets.sum(1) - 1).abs().max() < 1e-6
    for row in range(len(cut)):
        own = float((targets[row] * plain_targets[row]).sum())
        partner = min(range(len(cut)), key=lambda at: _beside(cut[row], plain[row], plain[at]))
        kept = (cut[row] == plain[row]).float().mean()
        assert _beside(cut[row], plain[row], plain[partner]) == 0  # every pixel is of the two
        assert float(kept) >= own - 1e-6  # by chance a pasted pixel may equal the own one


def _beside(cut, own, partner):
    return int(((cut != own) & (cut != partner)).sum())


def test_no_two_draws_share_their_randomness(images, monkeypatch):
    streams, seeded = [], np.random.default_rng

    def noted(seed):
        streams.append(tuple(np.random.SeedSequence(seed).generate_state(4)))
        return seeded(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    for epoch in range(3):
        draws(images, epoch=epoch)
    assert len(set(streams)) == len(streams) == 3 * (1 + 4)


def test_both_kinds_of_mixing_take_turns(images):
    kinds = set()
    for epoch in range(4):
        plain = draws(images, epoch=epoch)
        mixed = draws(images, epoch=epoch, mixup_alpha=1.0, cutmix_alpha=1.0)
        for (a, _, _), (b, _, _) in zip(plain, mixed, strict=True):
            # mixup changes nearly every pixel, cutmix leaves those outside the box
            kinds.add(bool((a == b).float().mean() > 0.2))
    assert kinds == {True, False}


def test_a_deferred_sampler_begins_at_its_share_of_the_epochs(images):
    late = {"epochs": 10, "sampler": {"name": "balanced", "start": 0.75}}
    assert starts_at(recipe(**late).sampler, recipe(**late)) == 8
    assert starts_at(recipe().sampler, recipe()) == 0
    for epochs in (1, 3):  # of which the last quarter is none, rounded
        few = recipe(**late | {"epochs": epochs, "sampler": {"name": "balanced", "start": 0.9}})
        assert starts_at(few.sampler, few) == epochs - 1
    for epoch, same in ((7, True), (8, False)):
        natural = torch.cat([inputs for inputs, _, _ in draws(images, epoch=epoch)])
        found = torch.cat([inputs for inputs, _, _ in draws(images, epoch=epoch, **late)])
        assert torch.equal(natural, found) == same


@pytest.mark.parametrize(("rows", "size"), [(53, 16), (48, 16), (17, 16), (5, 16), (1, 1)])
def test_steps_of_an_epoch(rows, size):
    assert count_steps(rows, size) == -(-rows // size)


@pytest.mark.parametrize("workers", [1, 3])
def test_own_rows_cover_every_row_once(workers):
    parts = [part for rank in range(workers) for part in own_rows(53, Share(rank, workers), 7)]
    assert max(map(len, parts)) <= 7
    assert sorted(np.concatenate(parts)) == list(range(53))


def test_results_are_worked_out_ahead_and_in_order():
    started = []

    def square(number):
        started.append(number)
        return number**2

    results = map_ahead(square, range(6))
    assert next(results) == 0
    assert list(results) == [1, 4, 9, 16, 25]
    assert started == list(range(6))


def test_an_error_on_the_way_reaches_the_reader():
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(lambda number: 1 // number, [1, 0]))
