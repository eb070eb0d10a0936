import numpy as np
import pytest
import torch

from pipeline.vision.training.batches import (
    Share,
    count_steps,
    epoch_order,
    training_batches,
    validation_batches,
)
from tests.packed import BARS, bars, write_set

ALONE = Share()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), *bars(53), BARS)


def batches(images, share=ALONE, alpha=0.0, epoch=0, size=16):
    return list(
        training_batches(
            images, share=share, global_batch_size=size, seed=3, epoch=epoch, mixup_alpha=alpha
        )
    )


@pytest.mark.parametrize(("rows", "size"), [(53, 16), (48, 16), (17, 16), (5, 16), (1, 1)])
def test_an_epoch_holds_every_row_once(rows, size):
    order = epoch_order(rows, size, seed=0, epoch=0)
    assert len(order) == count_steps(rows, size) == -(-rows // size)
    assert sorted(np.concatenate(order)) == list(range(rows))
    sizes = {len(batch) for batch in order}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_epochs_differ_and_repeat():
    first, again, second = (np.concatenate(epoch_order(50, 8, 1, e)) for e in (0, 0, 1))
    assert (first == again).all()
    assert (first != second).any()


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_workers_together_see_the_batches_of_one(images, workers, alpha):
    alone = batches(images, alpha=alpha)
    shares = [batches(images, Share(rank, workers), alpha) for rank in range(workers)]
    for step, whole in enumerate(alone):
        parts = [share[step] for share in shares]
        assert {part.global_size for part in parts} == {whole.global_size}
        for rank, part in enumerate(parts):
            assert torch.equal(part.images, whole.images[rank::workers])
            assert torch.equal(part.targets, whole.targets[rank::workers])


def test_a_worker_without_rows_gets_a_stand_in_of_no_weight(tmp_path):
    few = write_set(tmp_path, *bars(2), BARS)
    (batch,) = batches(few, Share(2, 3))
    assert len(batch.images) == 1
    assert batch.weights.tolist() == [0.0]
    assert batch.global_size == 2


def test_mixup_recomputed(images):
    plain, mixed = batches(images)[1], batches(images, alpha=0.5)[1]
    # Each target holds two classes; the image is the same mixture of two of the batch.
    lam = (mixed.targets * plain.targets).sum(1)
    for row in range(len(mixed.images)):
        rest = mixed.images[row] - lam[row] * plain.images[row]
        partners = (1 - lam[row]) * plain.images
        distance = (partners - rest).abs().amax(dim=(1, 2, 3))
        partner = int(distance.argmin())
        assert distance[partner] < 1e-5
        other = plain.targets[partner].argmax()
        assert other != plain.targets[row].argmax()
        assert mixed.targets[row, other] == pytest.approx(1 - float(lam[row]), abs=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_validation_covers_every_row_once(images, workers):
    seen = []
    for rank in range(workers):
        for pixels, labels in validation_batches(images, share=Share(rank, workers), size=7):
            assert len(pixels) == len(labels) <= 7
            seen += [
                (round(float(p.sum()), 2), int(y)) for p, y in zip(pixels, labels, strict=True)
            ]
    pixels = images.gather(np.arange(len(images))).reshape(len(images), -1).sum(1) / 255
    expected = [(round(float(p), 2), int(y)) for p, y in zip(pixels, images.labels, strict=True)]
    assert len(seen) == len(images)
    for (got, label), (want, truth) in zip(sorted(seen), sorted(expected), strict=True):
        assert got == pytest.approx(want, abs=0.02)
        assert label == truth
