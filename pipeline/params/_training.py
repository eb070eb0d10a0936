"""How a network is trained: the shape that the sections `train` and `finetune` share."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.params._augmentations import BATCH_AUGMENTATIONS, check_items
from pipeline.params._types import Count, Items, Name, NonNegative, Positive, Section, Seed, refuse


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
    precision: Literal["auto", "fp32", "bf16"]
    sync_batch_norm: bool
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
        return refuse(augment, check_items(augment, BATCH_AUGMENTATIONS, "augmentation"))

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
