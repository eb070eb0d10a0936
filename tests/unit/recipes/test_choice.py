"""Which recipe is chosen, what it keeps of params, and how long it takes."""

import math
from dataclasses import replace

import pytest

from pipeline.errors import PipelineError
from pipeline.params import Recipe, load_params
from pipeline.params.choices.training import Training
from pipeline.recipes import Facts, Pace, plan
from pipeline.recipes.choice import KEPT
from tests.contract.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")
GIVEN = {"train": PARAMS.train, "finetune": PARAMS.finetune}
FACTS = Facts((5000, 600, 50), 32, "resnet32", pretrained=False, mirrored=True, metric="macro_f1")
PACE = Pace(step_s=0.2, forward_s=0.0005, images=5650, validation_images=600)
FROM_WEIGHTS = GIVEN | {"train": PARAMS.train.model_copy(update={"weights": "IMAGENET1K_V1"})}


def asked(name="auto", budget=None):
    return Recipe(name=name, budget=budget, mirror="auto")


@pytest.mark.parametrize(
    ("name", "pretrained", "expected"),
    [
        ("auto", False, "long_tail"),
        ("auto", True, "transfer"),
        ("long_tail", True, "long_tail"),
        ("transfer", True, "transfer"),
    ],
)
def test_weights_to_start_from_decide(name, pretrained, expected):
    chosen = plan(replace(FACTS, pretrained=pretrained), asked(name), FROM_WEIGHTS)
    assert chosen.name == expected
    assert str(chosen).startswith(f"{expected}, ")


def test_transfer_without_weights_is_an_error():
    with pytest.raises(PipelineError, match=r"train\.weights is null; set it"):
        plan(FACTS, asked("transfer"), GIVEN)


@pytest.mark.parametrize("name", ["long_tail", "transfer"])
def test_only_what_a_person_alone_knows_is_kept(name):
    chosen = plan(FACTS, asked(name), FROM_WEIGHTS)
    others = {
        "seed": 7,
        "normalization": "data",
        "accumulate": 2,
        "precision": "fp32",
        "sync_batch_norm": False,
        # These are replaced:
        "epochs": 3,
        "clip_norm": 1.0,
        "cutmix_alpha": 0.3,
        "sampler": {"name": "balanced"},
        "trainable": "gradual",
    }
    given = {
        stage: Training.model_validate(
            section.model_dump(mode="json") | {"weights": "elsewhere"} | others, strict=False
        )
        for stage, section in GIVEN.items()
    }
    again = plan(FACTS, asked(name), given)
    for stage, section in again.sections.items():
        values, before = section.model_dump(), chosen.sections[stage].model_dump()
        kept = {key: getattr(given[stage], key) for key in KEPT[stage]}
        assert values == before | kept
    assert again.train.weights == "elsewhere"
    assert again.finetune.weights == "models/base"


def test_a_long_tail_trains_with_the_priors_and_then_the_head_on_balanced_batches():
    chosen = plan(FACTS, asked("long_tail"), GIVEN)
    assert chosen.seconds is None
    base, head = chosen.train, chosen.finetune
    assert (base.trainable, base.loss.name, base.sampler.name) == (
        "all",
        "balanced_softmax",
        "natural",
    )
    assert base.early_stopping.keep == "last"
    assert [item.key for item in base.augment][:2] == ["crop", "hflip"]
    assert head.trainable == "head"
    assert head.same_features
    assert head.sampler.name == "balanced"


def test_images_that_may_not_be_mirrored_are_not():
    for name in ("long_tail", "transfer"):
        chosen = plan(replace(FACTS, mirrored=False), asked(name), FROM_WEIGHTS)
        for section in chosen.sections.values():
            assert "hflip" not in [item.key for item in section.augment]


def test_augmentation_follows_the_images_and_the_length():
    """An epoch takes 9.65 s, see below; half of the side are 16 px."""

    def found(budget, *, mirrored):
        facts, paces = replace(FACTS, mirrored=mirrored), {"train": PACE, "finetune": PACE}
        section = plan(facts, asked("long_tail", budget), GIVEN, paces).train
        return section.epochs, [(item.key, getattr(item, "size", None)) for item in section.augment]

    windows = [("crop", None), ("hflip", None)]
    assert found("400 s", mirrored=True) == (39, windows)
    assert found("700 s", mirrored=True) == (
        70,
        [*windows, ("auto_augment", None), ("cutout", 16)],
    )
    for budget, epochs in (("400 s", 39), ("700 s", 70)):
        assert found(budget, mirrored=False) == (epochs, [("affine", None), ("cutout", 16)])


def test_accuracy_counts_the_classes_as_they_are():
    for name in ("long_tail", "transfer"):
        chosen = plan(replace(FACTS, metric="accuracy"), asked(name), FROM_WEIGHTS)
        assert chosen.train.loss.name == "cross_entropy"


def test_networks_of_one_size_get_images_of_one_size():
    large = replace(FACTS, side=96, network="squeezenet1_0", pretrained=True)
    assert plan(large, asked(), FROM_WEIGHTS).finetune.resizing.name == "progressive"
    for other in (replace(large, network="lenet5"), replace(large, side=32)):
        assert plan(other, asked(), FROM_WEIGHTS).finetune.resizing.name == "none"


@pytest.mark.parametrize("images", [20, 150, 394, 3000, 100_000])
def test_small_sets_have_smaller_batches(images):
    chosen = plan(replace(FACTS, counts=(images,)), asked("long_tail"), GIVEN)
    size = chosen.train.global_batch_size
    assert 16 <= size <= 128
    assert size == 16 or images / size >= 20
    assert math.log2(size).is_integer()


def test_a_budget_decides_the_epochs():
    """45 steps of 0.2 s, statistics of 706 images and 600 of validation at 0.5 ms."""
    epoch = 45 * 0.2 + (5650 / 8 + 600) * 0.0005
    head = 6 + 6250 * 0.0005
    paces = {"train": PACE, "finetune": PACE}
    chosen = plan(FACTS, asked("long_tail", "10 min"), GIVEN, paces)
    assert chosen.train.epochs == math.floor((600 - head - 6) / epoch)
    assert chosen.seconds == pytest.approx(head + 6 + chosen.train.epochs * epoch)
    assert 600 - epoch < chosen.seconds <= 600
    longest = plan(FACTS, asked("long_tail", "100 h"), GIVEN, paces)
    assert longest.train.epochs == 400


def test_a_budget_of_transfer_goes_to_the_tuning():
    facts = replace(FACTS, pretrained=True, side=128, network="squeezenet1_0")
    paces = {"train": PACE, "finetune": replace(PACE, step_s=0.1)}
    chosen = plan(facts, asked("transfer", "5 min"), FROM_WEIGHTS, paces)
    assert chosen.train == plan(facts, asked("transfer"), FROM_WEIGHTS).train
    # 177 steps of 32 images; for 60 % of the epochs they have 36 % of the pixels.
    epoch = 177 * 0.1 * (1 - 0.6 * 0.64) + (5650 / 8 + 600) * 0.0005
    probe = 6 + 6250 * 0.0005
    assert chosen.finetune.epochs == math.floor((300 - probe - 6) / epoch)


def test_a_budget_without_time_for_an_epoch_is_an_error():
    with pytest.raises(PipelineError, match=r"recipe.budget: 20 s leaves 11 s .* takes 16 s"):
        plan(FACTS, asked("long_tail", "20 s"), GIVEN, {"train": PACE, "finetune": PACE})


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "accuracy"])
@pytest.mark.parametrize("name", ["long_tail", "transfer"])
@pytest.mark.parametrize(
    "facts",
    [
        Facts((1, 1), 4, "plain", pretrained=True, mirrored=True, metric=""),
        Facts((7, 0, 7), 28, "lenet5", pretrained=True, mirrored=False, metric=""),
        Facts((10**6, 10), 512, "resnet50", pretrained=True, mirrored=True, metric=""),
    ],
)
def test_whatever_the_images_the_sections_are_valid(facts, name, metric):
    slow = Pace(0.5, 0.01, facts.images, 5)
    for budget in (None, "50 h"):
        chosen = plan(
            replace(facts, metric=metric),
            asked(name, budget),
            FROM_WEIGHTS,
            {"train": slow, "finetune": slow},
        )
        for section in chosen.sections.values():
            values, shape = section.model_dump(mode="json"), (facts.side, facts.side, 3)
            assert Training.model_validate(values, strict=False) == section
            assert not [m for item in section.augment for m in item.misfits(shape)]
