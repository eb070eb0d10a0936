"""The shape of params.yaml: one class per section.

No field has a default: params.yaml states every value, so that what DVC tracks there is all
that a result can depend on.
"""

import json
import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from pipeline.errors import did_you_mean
from pipeline.params._augmentations import (
    AUGMENTATIONS,
    BATCH_AUGMENTATIONS,
    VIEWS,
    check_items,
)
from pipeline.params._networks import NETWORKS, check_network_args

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(min_length=1)]

T = TypeVar("T")


def _refuse(value: T, mistakes: list[str]) -> T:
    """Return `value`, or raise all `mistakes` in one error that pydantic collects.

    A mistake that starts with '.' or '[' goes on with the key of the value.
    """
    if mistakes:
        raise ValueError(*mistakes)
    return value


def _is_finite(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("infinite or not a number, need finite numbers") from error
    return value


# What a network or an augmentation makes of a free argument is its own business.
Value = Annotated[JsonValue, AfterValidator(_is_finite)]
# A list of '- Name: {argument: value}', one name per item.
Items = tuple[dict[str, dict[str, Value]], ...]


class Section(BaseModel):
    """A frozen section that knows each of its keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class Data(Section):
    """Where the images are."""

    root: Name


class Sample(Section):
    """The embedded data set, or a torchvision one by name."""

    seed: Seed
    source: Name
    imbalance_ratio: Annotated[float, Field(ge=1.0)]


class Index(Section):
    """What counts as a usable image."""

    max_pixels: Count
    min_side: Count
    max_bad_fraction: Fraction
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)]


class Split(Section):
    """Which images train, which choose, which judge."""

    seed: Seed
    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]
    across_given_splits: Literal["stop", "allow", "drop"]

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.val + self.test >= 1.0:
            raise ValueError(f"val + test is {self.val + self.test:g}, need less than 1")
        return self


class Pack(Section):
    """How an image file becomes an array."""

    height: Count
    width: Count
    channels: Literal[1, 3]
    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[int, Field(ge=0, le=255)]
    bit_depth: Literal["auto", 8, 16]


class Balance(Section):
    """Synthetic images for the rare classes."""

    seed: Seed
    target: Literal["max", "median", "ratio", "effective"]
    ratio: Annotated[float, Field(gt=0.0, le=1.0)]
    beta: Annotated[float, Field(ge=0.0, lt=1.0)]
    max_copies_per_image: Annotated[int, Field(ge=0)]
    policy: Items
    per_class: dict[str, Items]

    @field_validator("policy")
    @classmethod
    def _policy_is_known(cls, policy: Items) -> Items:
        return _refuse(policy, check_items(policy, AUGMENTATIONS, "transform"))

    @field_validator("per_class")
    @classmethod
    def _policies_are_known(cls, policies: dict[str, Items]) -> dict[str, Items]:
        mistakes = []
        for label, policy in policies.items():
            mistakes += [f".{label}{m}" for m in check_items(policy, AUGMENTATIONS, "transform")]
        return _refuse(policies, mistakes)


class Model(Section):
    """Which network."""

    name: Name
    args: dict[str, Value]

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        known = did_you_mean(name, NETWORKS) + f" (valid: {', '.join(NETWORKS)})"
        return _refuse(name, [] if name in NETWORKS else [f"unknown network {name}{known}"])

    @model_validator(mode="after")
    def _args_are_known(self) -> Self:
        return _refuse(self, [f".args{m}" for m in check_network_args(self.name, self.args)])


class Optimizer(Section):
    """The step rule. `lr` is the peak of the schedule, per step on one global batch.

    `layer_decay` multiplies the rate once per depth group below the head.
    """

    name: Literal["sgd", "adamw"]
    lr: Positive
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: NonNegative
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)]


class ConstantRate(Section):
    """The peak rate throughout, after a linear warm-up."""

    name: Literal["constant"]
    warmup_epochs: NonNegative


class CosineRate(Section):
    """Half a cosine towards 0, after a linear warm-up."""

    name: Literal["cosine"]
    warmup_epochs: NonNegative


class StepRate(Section):
    """Multiplied by `factor` at each of `milestones`, shares of the whole training."""

    name: Literal["step"]
    warmup_epochs: NonNegative
    milestones: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...]
    factor: Annotated[float, Field(gt=0.0, le=1.0)]


class OneCycleRate(Section):
    """Up along half a cosine for the share `rise` of the training, then down to almost 0."""

    name: Literal["one_cycle"]
    rise: Annotated[float, Field(gt=0.0, lt=1.0)]


Schedule = Annotated[
    ConstantRate | CosineRate | StepRate | OneCycleRate, Field(discriminator="name")
]


class CrossEntropy(Section):
    """Cross-entropy."""

    name: Literal["cross_entropy"]


class Deferred(Section):
    """Something that takes over after the share `start` of the epochs."""

    start: Annotated[float, Field(ge=0.0, lt=1.0)]


class ClassBalanced(Deferred):
    """Cross-entropy weighted by effective numbers (Cui et al. 2019)."""

    name: Literal["class_balanced"]
    beta: Annotated[float, Field(ge=0.0, lt=1.0)]


class Focal(Deferred):
    """Cross-entropy that counts easy images less (Lin et al. 2017)."""

    name: Literal["focal"]
    gamma: NonNegative


class BalancedSoftmax(Deferred):
    """Softmax with the class priors taken in (Ren et al. 2020)."""

    name: Literal["balanced_softmax"]


class LogitAdjusted(Deferred):
    """Logits shifted by tau times the log priors (Menon et al. 2021)."""

    name: Literal["logit_adjusted"]
    tau: NonNegative


Loss = Annotated[
    CrossEntropy | ClassBalanced | Focal | BalancedSoftmax | LogitAdjusted,
    Field(discriminator="name"),
]


class NaturalSampler(Section):
    """Each image once per epoch."""

    name: Literal["natural"]


class SquareRootSampler(Deferred):
    """Classes as often as the square root of their size."""

    name: Literal["square_root"]


class BalancedSampler(Deferred):
    """All classes as often as each other."""

    name: Literal["balanced"]


Sampler = Annotated[
    NaturalSampler | SquareRootSampler | BalancedSampler, Field(discriminator="name")
]


class EarlyStopping(Section):
    """Which epoch's weights are kept, and when to stop waiting for a better one.

    The best epoch is the one with the best `metric` on the validation split; training stops
    after `patience` epochs that do not better it by `min_delta`.
    """

    metric: Literal["loss", "accuracy", "balanced_accuracy"]
    patience: Count
    min_delta: NonNegative


class Training(Section):
    """One training: the sections `train` and `finetune` share this shape."""

    seed: Seed
    images: Literal["data/packed/train", "data/balanced"]
    weights: Name | None
    normalization: Literal["auto", "data", "imagenet"]
    trainable: Literal["all", "head", "gradual"]
    epochs: Count
    global_batch_size: Count
    accumulate: Count
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    sampler: Sampler
    augment: Items
    mixup_alpha: NonNegative
    cutmix_alpha: NonNegative
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)]
    clip_norm: NonNegative
    early_stopping: EarlyStopping

    @field_validator("augment")
    @classmethod
    def _augmentations_are_known(cls, augment: Items) -> Items:
        return _refuse(augment, check_items(augment, BATCH_AUGMENTATIONS, "augmentation"))

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.trainable != "all" and self.weights is None:
            raise ValueError(
                f"trainable: {self.trainable} on weights: null would freeze random layers"
            )
        if self.accumulate > self.global_batch_size:
            raise ValueError(
                f"accumulate: {self.accumulate} parts of global_batch_size:"
                f" {self.global_batch_size} images, some would be empty"
            )
        return self


class Baseline(Section):
    """The classical classifier on hand-crafted features."""

    seed: Seed
    classifier: Literal["logistic_regression", "random_forest", "svm"]
    class_weight: Literal["balanced", "none"]


class Evaluate(Section):
    """How figures and their intervals are computed."""

    seed: Seed
    bootstrap_resamples: Annotated[int, Field(ge=100)]
    calibration_bins: Annotated[int, Field(ge=2)]
    top_k: tuple[Annotated[int, Field(ge=2)], ...]
    suspicious_images: Count


class Tta(Section):
    """Test-time augmentation: the views whose posteriors are averaged."""

    views: Annotated[Items, Field(min_length=1)]

    @field_validator("views")
    @classmethod
    def _views_are_known(cls, views: Items) -> Items:
        return _refuse(views, check_items(views, VIEWS, "view"))


class Embed(Section):
    """Nearest neighbours in the latent space."""

    seed: Seed
    recall_at: Annotated[tuple[Count, ...], Field(min_length=1)]


class Register(Section):
    """The registered model and its gate."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            description="letters, digits and then also _ . -",
        ),
    ]
    alias: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
            description="a letter, then letters, digits, _ or -",
        ),
    ]
    min_gain_over_baseline: Fraction
    max_macro_f1_loss: Fraction
    max_class_recall_loss: Fraction
    max_ece_gain: Fraction
    max_latency_ratio: Positive

    @field_validator("alias")
    @classmethod
    def _alias_is_free(cls, alias: str) -> str:
        if alias == "latest" or re.fullmatch(r"v\d+", alias):
            return _refuse(alias, [f"{alias} means a version to MLflow, take another"])
        kept = alias in ("previous", "challenger")
        return _refuse(alias, [f"{alias} is an alias that Convoy sets itself, take another"] * kept)


class Report(Section):
    """The page."""

    title: Name


def _is_range(workers: int | tuple[int, int]) -> int | tuple[int, int]:
    if isinstance(workers, tuple) and workers[0] > workers[1]:
        raise ValueError(f"got {list(workers)}, need [fewest, most], in this order")
    return workers


class Resources(Section):
    """What a training may use. Tracked by no stage: it changes speed, and rounding."""

    workers: Annotated[
        Count | tuple[Count, Count],
        AfterValidator(_is_range),
        Field(description="a whole number from 1, or two as [fewest, most]"),
    ]
    cpus_per_worker: Count | None
    gpus_per_worker: NonNegative | None
    threads: Annotated[Literal["auto"] | Count, Field(description="auto or a whole number from 1")]
    precision: Literal["auto", "fp32", "bf16"]
    sync_batch_norm: bool
    address: Name | None
    storage: Name
    checkpoint_interval_s: NonNegative
    max_failures: Annotated[int, Field(ge=0)]

    @property
    def fewest_workers(self) -> int:
        """The workers that a training needs to start and to go on."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """The workers that a training uses where there is room for them."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]


class Tracking(Section):
    """The MLflow server; MLFLOW_TRACKING_URI overrides `uri`. Tracked by no stage."""

    uri: Name
    experiment: Name


class Params(Section):
    """params.yaml."""

    data: Data
    sample: Sample
    index: Index
    split: Split
    pack: Pack
    balance: Balance
    model: Model
    train: Training
    finetune: Training
    baseline: Baseline
    evaluate: Evaluate
    tta: Tta
    embed: Embed
    register_: Register = Field(alias="register")
    report: Report
    resources: Resources
    tracking: Tracking

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain values, for digests and logs."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True)[name]
        return dumped
