"""Trainers on small packed sets, and what is compared of them."""

import torch

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from pipeline.vision.weights.loading import Loaded
from tests.jobs import RECIPE, job_on

CPU = torch.device("cpu")
FP32 = Arithmetic()
WHOLE = Share()
ALL_STEPS = 10**6
CONSTANT = {"name": "constant", "warmup_epochs": 0}
NEW_HEAD = Loaded((), (), (), ("head.weight", "head.bias"))


def recipe(**changes):
    """Return the sample's recipe, short, and with changes."""
    values = RECIPE.model_dump(mode="json") | {"epochs": 4, "global_batch_size": 16} | changes
    return type(RECIPE).model_validate(values, strict=False)


def optimizer(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, layer_decay=1.0):
    return {
        "name": name,
        "lr": lr,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "layer_decay": layer_decay,
    }


def trainer(sets, how, name="lenet5", arithmetic=FP32, share=WHOLE):
    """Return one with random weights; where the recipe names some, all but the head is of them."""
    torch.manual_seed(how.seed)
    network = build_network(name, {}, (1, 16, 16), 3)
    loaded = NEW_HEAD if how.weights else None
    return Trainer(network, job_on(sets, how), Worker(share, CPU, arithmetic), loaded)


def weights(network):
    """Return all values of a network, as one vector."""
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def pixels_of(images):
    """Return images as they are normalised by `job_on`, n x 1 x height x width, and labels."""
    raw = torch.from_numpy(images.gather(range(len(images)))).permute(0, 3, 1, 2)
    return (raw / 255 - 0.2) / 0.3, torch.tensor(images.labels.tolist())


def without_speed(record):
    return {key: value for key, value in record.items() if key != "images_per_s"}
