import math

import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.checkpoint import BEST_FILE, is_whole
from pipeline.vision.training.losses import cross_entropy
from pipeline.vision.training.norm_statistics import batches_needed
from pipeline.vision.training.probe import fit_probe
from pipeline.vision.training.sources import Features
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.training_state import read_training_state
from pipeline.vision.training.worker import Worker
from pipeline.vision.weights.loading import Loaded
from tests.jobs import RECIPE, job_on
from tests.packed import BARS, bars, write_set

CPU = torch.device("cpu")
ALL_STEPS = 10**6
FP32 = Arithmetic()
EVERYTHING = {
    "mixup_alpha": 0.3,
    "cutmix_alpha": 0.5,
    "augment": [{"hflip": {"p": 0.5}}, {"noise": {"std": 0.1}}],
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "accumulate": 2,
    "loss": {"name": "logit_adjusted", "tau": 1.0, "start": 0.5},
    "sampler": {"name": "balanced", "start": 0.5},
}


def recipe(**changes):
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


NEW_HEAD = Loaded((), (), (), ("head.weight", "head.bias"))
CONSTANT = {"name": "constant", "warmup_epochs": 0}


def trainer(sets, how, name="lenet5", arithmetic=FP32):
    torch.manual_seed(how.seed)
    network = build_network(name, {}, (1, 16, 16), 3)
    loaded = NEW_HEAD if how.weights else None
    return Trainer(network, job_on(sets, how), Worker(Share(), CPU, arithmetic), loaded)


def weights(network):
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def pixels_of(images):
    raw = torch.from_numpy(images.gather(range(len(images)))).permute(0, 3, 1, 2)
    return (raw / 255 - 0.2) / 0.3, torch.tensor(images.labels.tolist())


def without_speed(record):
    return {key: value for key, value in record.items() if key != "images_per_s"}


def test_one_sgd_step_recomputed(sets):
    """One epoch of one step: the loss, the gradient and the update by hand."""
    how = recipe(
        epochs=1,
        global_batch_size=90,
        label_smoothing=0.1,
        optimizer=optimizer(weight_decay=0.5),
        schedule=CONSTANT,
    )
    one = trainer(sets, how)
    before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
    reference = build_network("lenet5", {}, (1, 16, 16), 3)
    reference.load_state_dict(one.network.state_dict())
    images, labels = pixels_of(ImageSet.open(sets[0]))
    loss = functional.cross_entropy(reference(images), labels, label_smoothing=0.1)
    loss.backward()
    record = one.advance(1)
    assert record["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in reference.named_parameters():
        decay = 0.5 if parameter.ndim > 1 else 0.0  # biases do not decay
        expected = before[name] - 0.1 * (parameter.grad + decay * before[name])
        found = dict(one.network.named_parameters())[name]
        assert torch.allclose(found, expected, atol=1e-6), name


def test_a_batch_in_parts_gives_the_same_step(sets):
    how = {"global_batch_size": 90, "epochs": 1, "optimizer": optimizer(), "schedule": CONSTANT}
    whole, parts = trainer(sets, recipe(**how)), trainer(sets, recipe(**how, accumulate=4))
    records = [without_speed(one.advance(1)) for one in (whole, parts)]
    assert records[0] == pytest.approx(records[1], rel=1e-5)
    assert torch.allclose(weights(whole.network), weights(parts.network), atol=1e-6)


def test_a_clipped_gradient_has_the_norm_asked_for(sets):
    how = {"global_batch_size": 90, "epochs": 1, "optimizer": optimizer(), "schedule": CONSTANT}
    one = trainer(sets, recipe(**how, clip_norm=0.01))
    before = weights(one.network)
    one.advance(1)
    assert (weights(one.network) - before).norm() == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_rate_per_depth_group(sets):
    """With SGD a step is rate times gradient: the groups' steps differ by the decay."""
    how = {"global_batch_size": 90, "epochs": 1, "schedule": CONSTANT}
    moved = []
    for decay in (1.0, 0.1):
        one = trainer(sets, recipe(**how, optimizer=optimizer(layer_decay=decay)))
        before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
        one.advance(1)
        moved.append({n: p.detach() - before[n] for n, p in one.network.named_parameters()})
    ratios = {n: (moved[1][n].norm() / moved[0][n].norm()).item() for n in moved[0]}
    assert ratios["head.weight"] == pytest.approx(1.0, rel=1e-4)
    found = [round(math.log10(1 / ratio)) for n, ratio in ratios.items() if n.endswith("weight")]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found[0] >= 3


@pytest.mark.parametrize("rows", [7, 512])
def test_validation_figures_recomputed(sets, monkeypatch, rows):
    monkeypatch.setattr("pipeline.vision.training.trainer._MOST_VALIDATION_ROWS", rows)
    one = trainer(sets, recipe())
    record = one.advance(ALL_STEPS)
    images, labels = pixels_of(ImageSet.open(sets[1]))
    with torch.inference_mode():
        logits = one.network.eval()(images)
    right = logits.argmax(1) == labels
    recalls = [right[labels == label].float().mean().item() for label in range(3)]
    assert record["val_loss"] == pytest.approx(functional.cross_entropy(logits, labels).item())
    assert record["val_accuracy"] == pytest.approx(right.float().mean().item())
    assert record["val_balanced_accuracy"] == pytest.approx(sum(recalls) / 3)
    assert record["val_macro_f1"] == pytest.approx(
        f1_score(labels, logits.argmax(1), average="macro")
    )
    assert record["val_predicted_classes"] == len(logits.argmax(1).unique())


@pytest.mark.parametrize(
    ("changes", "network", "arithmetic"),
    [
        ({"optimizer": optimizer("sgd", 0.01, 0.9, 0.01)}, "lenet5", Arithmetic()),
        ({"optimizer": optimizer("sgd", 0.01)}, "lenet5", Arithmetic()),
        # dropout and batch norms, whose state must survive too
        ({"mixup_alpha": 0.3}, "mobilenet_v3_small", Arithmetic(memory_format="channels_last")),
        (EVERYTHING, "resnet20", Arithmetic(memory_format="channels_last")),
        (EVERYTHING, "resnet20", Arithmetic("bf16")),
        ({"trainable": "gradual", "weights": "elsewhere"}, "resnet20", Arithmetic()),
        (
            {"trainable": "head", "weights": "elsewhere", "ema_decay": 0.9},
            "resnet20",
            Arithmetic(),
        ),
    ],
)
@pytest.mark.parametrize("stops", [(6,), (2,), (6, 4)])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    sets, tmp_path, changes, network, arithmetic, stops
):
    """Stopped after an epoch, within one, and within the one after."""
    how = recipe(epochs=3, **changes)
    whole = trainer(sets, how, network, arithmetic)
    records = [without_speed(whole.advance(ALL_STEPS)) for _ in range(3)]
    part = trainer(sets, how, network, arithmetic)
    for number, steps in enumerate(stops):
        part.advance(steps)
        part.save(tmp_path / str(number))
        assert is_whole(tmp_path / str(number))
        part.advance(1)  # is lost
        part = trainer(sets, how, network, arithmetic)
        part.restore(tmp_path / str(number))
    while not part.done:
        part.advance(ALL_STEPS)
    assert [without_speed(record) for record in part.state.history] == records
    assert torch.equal(weights(part.network), weights(whole.network))
    assert all(torch.equal(part.best_weights[k], v) for k, v in whole.best_weights.items())


def test_it_learns_and_keeps_the_best(sets, tmp_path):
    stopping = RECIPE.early_stopping.model_copy(update={"metric": "loss"})
    one = trainer(sets, recipe(epochs=15, early_stopping=stopping))
    while not one.done:
        one.advance(ALL_STEPS)
    losses = [record["val_loss"] for record in one.state.history]
    assert -one.state.best_score == min(losses) < 0.5 * losses[0]
    assert one.state.best_epoch == losses.index(min(losses)) + 1
    one.save(tmp_path)
    assert read_training_state(tmp_path) == one.state
    assert (tmp_path / BEST_FILE).exists()


def test_patience_ends_a_training_that_gains_less_than_min_delta(sets):
    stopping = {"metric": "loss", "patience": 2, "min_delta": 1e9}
    one = trainer(sets, recipe(epochs=50, early_stopping=stopping))
    while not one.done:
        one.advance(ALL_STEPS)
    # The first epoch gains (the best was infinite), the next two do not gain enough.
    assert one.state.epochs_done == 3
    # The best weights are kept even so.
    losses = [record["val_loss"] for record in one.state.history]
    assert -one.state.best_score == min(losses)


@pytest.mark.parametrize("kind", ["loss", "sampler"])
def test_weights_from_before_a_late_change_are_not_kept(sets, kind):
    late = {
        "loss": {"name": "logit_adjusted", "tau": 1.0, "start": 0.5},
        "sampler": {"name": "balanced", "start": 0.5},
    }
    # The rate is next to nothing by then: validation gets no better.
    steps = {"name": "step", "warmup_epochs": 0, "milestones": [0.3], "factor": 1e-9}
    how = recipe(epochs=6, schedule=steps, **{kind: late[kind]})
    one = trainer(sets, how)
    while not one.done:
        one.advance(ALL_STEPS)
    assert one.state.best_epoch >= 4


def test_averaged_weights_are_judged_and_kept(sets):
    how = recipe(epochs=2, ema_decay=0.9)
    one, plain = trainer(sets, how), trainer(sets, recipe(epochs=2))
    records = [[t.advance(ALL_STEPS) for _ in range(2)] for t in (one, plain)]
    # The same training, seen through an average: only validation differs.
    assert records[0][1]["train_loss"] == records[1][1]["train_loss"]
    assert records[0][1]["val_loss"] != records[1][1]["val_loss"]
    kept = build_network("lenet5", {}, (1, 16, 16), 3)
    kept.load_state_dict(one.best_weights)
    images, labels = pixels_of(ImageSet.open(sets[1]))
    with torch.inference_mode():
        loss = functional.cross_entropy(kept.eval()(images), labels).item()
    assert loss == pytest.approx(records[0][one.state.best_epoch - 1]["val_loss"], rel=1e-5)


def test_a_last_step_that_diverges_is_noticed(sets):
    """The losses of an epoch are those before its steps; only validation sees the last one."""
    how = recipe(optimizer=optimizer(lr=1e38), schedule=CONSTANT, global_batch_size=90)
    with pytest.raises(PipelineError, match=r"validation loss is nan at epoch 1 \(of 1 steps"):
        trainer(sets, how).advance(1)


def test_a_loss_that_is_not_finite_stops_names_the_step_and_is_not_saved(sets, tmp_path):
    one = trainer(sets, recipe(optimizer=optimizer(lr=1e30), schedule=CONSTANT))
    message = r"training loss is (nan|inf) at epoch 1, step [2-6] \(of 6 steps"
    with pytest.raises(PipelineError, match=message):
        one.advance(ALL_STEPS)
    with pytest.raises(PipelineError, match=message):
        one.save(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_batch_norm_with_nothing_to_average(sets):
    how = recipe(global_batch_size=1)
    with pytest.raises(PipelineError, match="a batch norm got a single value per channel"):
        trainer(sets, how, "mobilenet_v3_small").advance(1)


def test_too_little_memory_is_an_error_with_a_remedy(sets, monkeypatch):
    def refuse(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    one = trainer(sets, recipe())
    monkeypatch.setattr(one.network, "forward", refuse)
    with pytest.raises(PipelineError, match=r"too little memory for a step \(CUDA out of memory\)"):
        one.advance(1)


def test_a_frozen_extractor_stays_as_it_was(sets):
    # with mixup features change from epoch to epoch, so the extractor runs each time
    for changes in ({}, {"mixup_alpha": 0.5}):
        one = trainer(sets, recipe(trainable="head", weights="elsewhere", **changes), "resnet20")
        before = {k: v.clone() for k, v in one.network.extractor.state_dict().items()}
        head = one.network.head.weight.clone()
        one.advance(ALL_STEPS)
        after = one.network.extractor.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not torch.equal(one.network.head.weight, head)


def test_features_computed_once_train_the_same_head(sets, monkeypatch):
    how = recipe(trainable="head", weights="elsewhere", label_smoothing=0.1)
    cached = trainer(sets, how, "resnet20")
    assert cached._step.judged is cached.network.head
    monkeypatch.setattr("pipeline.vision.training.trainer.features_suffice", lambda _: False)
    again = trainer(sets, how, "resnet20")
    assert again._step.judged is again.network
    for _ in range(3):
        records = [without_speed(one.advance(ALL_STEPS)) for one in (cached, again)]
        assert records[0] == pytest.approx(records[1], rel=1e-4)
    assert torch.allclose(cached.network.head.weight, again.network.head.weight, atol=1e-5)


def test_features_are_judged_many_at_a_time_however_large_the_images(sets, monkeypatch):
    monkeypatch.setattr("pipeline.vision.training.trainer._VALIDATION_VALUES", 16 * 16)
    one = trainer(sets, recipe(trainable="head", weights="elsewhere", global_batch_size=90))
    taken, fetch = [], Features.fetch
    monkeypatch.setattr(
        Features, "fetch", lambda source, rows: taken.append(len(rows)) or fetch(source, rows)
    )
    one.advance(1)
    assert taken == [90, 90, 30]  # to fit the new head, to train, to validate


def test_gradual_unfreezing_goes_from_the_head_down(sets):
    one = trainer(sets, recipe(trainable="gradual", weights="elsewhere"), "resnet20")
    moved = []
    for _ in range(4):
        before = {n: p.detach().clone() for n, p in one.network.named_parameters()}
        one.advance(ALL_STEPS)
        after = dict(one.network.named_parameters())
        moved.append({n for n, value in before.items() if not torch.equal(after[n], value)})
    assert moved[0] == {"head.weight", "head.bias"}
    assert moved[0] < moved[1] < moved[2] == moved[3] == set(before)
    assert not any(name.startswith("extractor.conv1") for name in moved[1])


def test_16_bit_pixels_train_as_their_8_bit_images(sets, tmp_path):
    one = trainer(sets, recipe())
    for name, (images, labels) in (("train", bars(90)), ("val", bars(30, seed=1))):
        deep = images.astype("uint16") * 257  # 255 becomes 65535
        write_set(tmp_path / name, deep, labels, BARS)
    other = trainer((tmp_path / "train", tmp_path / "val"), recipe())
    found, expected = other.advance(ALL_STEPS), one.advance(ALL_STEPS)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)


def test_the_learning_rate_follows_the_schedule(sets):
    how = recipe(epochs=3, schedule={"name": "cosine", "warmup_epochs": 1})
    one = trainer(sets, how)
    rates = [one.advance(ALL_STEPS)["lr"] for _ in range(3)]
    steps = 6  # per epoch, of 18 in all
    expected = [how.optimizer.lr] + [
        how.optimizer.lr * 0.5 * (1 + math.cos(math.pi * (step - steps) / (2 * steps)))
        for step in (11, 17)
    ]
    assert rates == pytest.approx(expected)


def test_the_progress_within_an_epoch(sets):
    one = trainer(sets, recipe())
    assert one.epoch_progress().loss is None
    assert one.advance(4) is None
    epoch_progress = one.epoch_progress()
    assert (epoch_progress.epoch, epoch_progress.images, epoch_progress.of_images) == (1, 60, 90)
    assert epoch_progress.loss == pytest.approx(math.log(3), abs=0.5)
    assert one.advance(4)["epoch"] == 1
    assert one.epoch_progress().epoch == 2
    assert one.agree(3, 5) == (3, 5)


def test_steps_at_given_rates(sets):
    """What the learning-rate range test does: any rate, any loss, epoch after epoch."""
    one = trainer(sets, recipe(optimizer=optimizer()))
    losses = [one.step_at(1e-9) for _ in range(8)]
    assert losses[:6] != losses[2:]
    assert all(math.isfinite(loss) for loss in losses)
    for _ in range(20):
        loss = one.step_at(1e20)
    assert not math.isfinite(loss)


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_new_head_above_loaded_weights_starts_as_a_probe(sets, name, trainable):
    how = recipe(weights="elsewhere", trainable=trainable, epochs=1, label_smoothing=0.1)
    one = trainer(sets, how, name)
    expected = build_network(name, {}, (1, 16, 16), 3)
    expected.load_state_dict(one.network.state_dict())
    images, labels = pixels_of(ImageSet.open(sets[0]))
    if name == "resnet20" and trainable == "all":  # norms normalise by these images from now on
        first = one.steps_per_epoch - batches_needed(one.steps_per_epoch, 16)
        stream = one._batches.stream(Share(), 0, first)
        update_bn([one._step._compose(plan)[0] for plan in stream], expected)
    with torch.inference_mode():
        features = expected.eval().extractor(images)
    targets = torch.eye(3)[labels] * 0.9 + 0.1 / 3
    weight, bias = fit_probe(features.clone(), targets, cross_entropy)
    one._begin_epoch()
    with torch.inference_mode():
        found = one.network.head(features)
    assert torch.allclose(found, features @ weight.T + bias, atol=0.02)
    assert functional.cross_entropy(found, labels) < 0.8  # a guess is log(3) = 1.1
    assert one.network.head.training


def test_a_head_that_was_loaded_stays(sets):
    torch.manual_seed(0)
    network = build_network("lenet5", {}, (1, 16, 16), 3)
    loaded = Loaded(("head.weight", "head.bias"), (), (), ())
    one = Trainer(network, job_on(sets, recipe(weights="x")), Worker(Share(), CPU, FP32), loaded)
    before = network.head.weight.detach().clone()
    one._begin_epoch()
    assert torch.equal(network.head.weight, before)
