"""Several processes over gloo train as one process does."""

import warnings

import pytest
import torch
from torch import distributed, multiprocessing

from pipeline.vision.training.batches import Share
from tests.packed import write_sets
from tests.unit.vision.training.trainers import recipe, trainer

WORKERS = 3
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.001, "layer_decay": 0.8}
CASES = {
    "parts of batches, clipped": {"accumulate": 2, "clip_norm": 0.5, "optimizer": SGD},
    "unfrozen by and by": {"weights": "elsewhere", "trainable": "gradual", "optimizer": SGD},
    "orthogonal steps": {"optimizer": {"name": "muon", "lr": 0.005}},
    "sharpness-aware": {"optimizer": SGD | {"sam_rho": 0.1}, "accumulate": 2},
    "contrast": {"contrast": {"name": "prototypes"}, "accumulate": 2, "optimizer": SGD},
    "averaged": {"ema_decay": 0.9, "mixup_alpha": 0.3},
    # There are fewer validation images than workers.
    "features": {"weights": "elsewhere", "trainable": "head"},
    "a probe": {"weights": "elsewhere", "trainable": "probe", "global_batch_size": 53},
}
UNSYNCHRONISED = "norms of each worker's own, averaged"


def train(folder, share, network="lenet5", **changes):
    """Train three epochs; return what is judged and what is kept."""
    how = recipe(**{"epochs": 3} | changes)
    one = trainer((folder / "train", folder / "val"), how, network, share=share)
    while not one.done:
        one.advance(2)
    losses = [(record["train_loss"], record["val_loss"]) for record in one.state.history]
    return {"losses": torch.tensor(losses), **one.best_weights}


def work(rank, folder):
    """Run one worker and write what it kept."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of kernels for grey images
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), WORKERS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
    share = Share(rank, WORKERS)
    kept = {name: train(folder, share, **changes) for name, changes in CASES.items()}
    sgd = {"ema_decay": 0.9, "optimizer": SGD | {"lr": 0.005}, "epochs": 2}
    kept[UNSYNCHRONISED] = train(folder, share, "resnet20", **sgd)
    torch.save(kept, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    write_sets(folder, 53, 2)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    # Workers are forked from a process that imported torch once for all of them.
    multiprocessing.set_forkserver_preload([__name__])
    multiprocessing.start_processes(work, (folder,), WORKERS, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("name", CASES)
def test_workers_train_what_one_process_trains(folder, results, name):
    expected = train(folder, Share(), **CASES[name])
    for result in results:
        torch.testing.assert_close(result[name], expected, rtol=1e-4, atol=1e-5)


def test_all_workers_judge_and_keep_the_same_weights(results):
    first = results[0][UNSYNCHRONISED]
    for result in results[1:]:
        torch.testing.assert_close(result[UNSYNCHRONISED], first, rtol=0, atol=0)
