"""How a network is trained: the shape that the sections `train` and `finetune` share.

Whatever has a name has defaults for its options, so that another name alone will do, as in
`dvc exp run -S train.schedule.name=one_cycle`. They are those of the paper or of PyTorch.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params._types import (
    LISTED,
    Bounded,
    Count,
    Name,
    Named,
    NonNegative,
    Section,
    Seed,
    Share,
)
from pipeline.params.choices.augmentations import Augmentations


class _StepRule(Section):
    """`lr` is the peak of the schedule, per step on one global batch.

    `layer_decay` multiplies the rate once per depth group below the head. `sam_rho` is the radius
    of sharpness-aware minimisation, which takes two passes a step; 0 switches it off.
    """

    lr: Annotated[float, Field(gt=0.0, le=3e38)]  # float32 holds no more
    momentum: Share = 0.9
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    sam_rho: Bounded = 0.0


class Sgd(_StepRule):
    """Stochastic gradient descent with Nesterov's momentum; defaults of He et al. 2016."""

    name: Literal["sgd"]
    weight_decay: Bounded = 1e-4


class AdamW(_StepRule):
    """AdamW (Loshchilov and Hutter 2019), `momentum` its first beta; defaults of PyTorch."""

    name: Literal["adamw"]
    weight_decay: Bounded = 0.01


class Muon(_StepRule):
    """Muon (Jordan et al. 2024) below the head, AdamW for the head, biases and norms.

    Its steps are as long as those of AdamW, so that rate and decay are of the same kind.
    """

    name: Literal["muon"]
    momentum: Share = 0.95
    weight_decay: Bounded = 0.1


Optimizer = Annotated[Sgd | AdamW | Muon, Named()]


class _WarmedUp(Section):
    """A rate that rises linearly over the first epochs."""

    warmup_epochs: NonNegative = 0.0


class ConstantRate(_WarmedUp):
    """The peak rate throughout, after the warm-up."""

    name: Literal["constant"]


class CosineRate(_WarmedUp):
    """Half a cosine towards 0, after the warm-up."""

    name: Literal["cosine"]


class StepRate(_WarmedUp):
    """Multiplied by `factor` at each of `milestones`, shares of the whole training.

    Defaults of He et al. 2016, section 4.2: 32,000 and 48,000 of 64,000 steps.
    """

    name: Literal["step"]
    milestones: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], LISTED] = (0.5, 0.75)
    factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1


class OneCycleRate(Section):
    """Up along half a cosine for the share `rise` of the training, then down to almost 0.

    The default is that of PyTorch's OneCycleLR (`pct_start`).
    """

    name: Literal["one_cycle"]
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3


Schedule = Annotated[ConstantRate | CosineRate | StepRate | OneCycleRate, Named()]


class CrossEntropy(Section):
    """Cross-entropy."""

    name: Literal["cross_entropy"]


class Deferred(Section):
    """Something that takes over after the share `start` of the epochs."""

    start: Share = 0.0


class ClassBalanced(Deferred):
    """Cross-entropy weighted by effective numbers (Cui et al. 2019, who try 0.9 to 0.9999)."""

    name: Literal["class_balanced"]
    beta: Share = 0.999


class Focal(Deferred):
    """Cross-entropy that counts easy images less (Lin et al. 2017, whose best gamma is 2)."""

    name: Literal["focal"]
    gamma: NonNegative = 2.0


class BalancedSoftmax(Deferred):
    """Softmax with the class priors taken in (Ren et al. 2020)."""

    name: Literal["balanced_softmax"]


class LogitAdjusted(Deferred):
    """Logits shifted by tau times the log priors (Menon et al. 2021, for whom 1 is consistent)."""

    name: Literal["logit_adjusted"]
    tau: NonNegative = 1.0


Loss = Annotated[CrossEntropy | ClassBalanced | Focal | BalancedSoftmax | LogitAdjusted, Named()]


class NaturalSampler(Section):
    """Each image once per epoch."""

    name: Literal["natural"]


class SquareRootSampler(Deferred):
    """Classes as often as the square root of their size."""

    name: Literal["square_root"]


class BalancedSampler(Deferred):
    """All classes as often as each other."""

    name: Literal["balanced"]


Sampler = Annotated[NaturalSampler | SquareRootSampler | BalancedSampler, Named()]


class NoContrast(Section):
    """One view of each image, and the head alone."""

    name: Literal["none"]


class ClassPrototypes(Section):
    """Further views of each image, contrasted with the classes' distributions (Du et al. 2024).

    Defaults of the paper; `dimensions` are those of the second head, which is not shipped.
    """

    name: Literal["prototypes"]
    views: Annotated[int, Field(ge=1, le=8)] = 2
    weight: Bounded = 1.0
    temperature: Annotated[float, Field(ge=0.01, le=10.0)] = 0.1
    dimensions: Annotated[int, Field(ge=16, le=4096)] = 128


Contrast = Annotated[NoContrast | ClassPrototypes, Named()]


class WholeSize(Section):
    """Images as they were packed, in every epoch."""

    name: Literal["none"]


class ProgressiveResizing(Section):
    """Smaller images first: `scale` of each side, for the share `until` of the epochs."""

    name: Literal["progressive"]
    until: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6
    scale: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6


Resizing = Annotated[WholeSize | ProgressiveResizing, Named()]


class EarlyStopping(Section):
    """Which epoch's weights are kept, and when to stop waiting for a better one.

    The best epoch is the one with the best `metric` on the validation split, of equals the one
    with the lower loss; training stops after `patience` epochs that do not better it by
    `min_delta`. Kept is the best epoch, or the last one that was trained.
    """

    metric: Literal["macro_f1", "balanced_accuracy", "accuracy", "loss"]
    patience: Count
    min_delta: NonNegative
    keep: Literal["best", "last"]


class Training(Section):
    """One training: the sections `train` and `finetune` share this shape."""

    seed: Seed
    images: Literal["data/packed/train", "data/balanced"]
    weights: Name | None
    normalization: Literal["auto", "data", "imagenet"]
    trainable: Literal["all", "head", "gradual", "probe"]
    epochs: Count
    global_batch_size: Count
    accumulate: Count
    precision: Literal["auto", "fp32", "bf16"]
    sync_batch_norm: bool
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    label_smoothing: Share
    tail_smoothing: Share | None
    sampler: Sampler
    augment: Augmentations
    mixup_alpha: Bounded
    cutmix_alpha: Bounded
    mix_partners: Literal["any", "other_classes"]
    contrast: Contrast
    resizing: Resizing
    ema_decay: Share
    clip_norm: NonNegative
    early_stopping: EarlyStopping

    @property
    def views(self) -> int:
        """Views of each image in a step; the first one is classified."""
        return 1 + (self.contrast.views if isinstance(self.contrast, ClassPrototypes) else 0)

    @property
    def same_features(self) -> bool:
        """Whether an image gives the same features in every epoch, so that one pass is enough."""
        changed = self.augment or max(self.mixup_alpha, self.cutmix_alpha) > 0
        return self.trainable in ("head", "probe") and not changed

    @model_validator(mode="after")
    def _probes_images_as_they_are(self) -> Self:
        needs = {
            "augment: []": not self.augment,
            "mixup_alpha: 0": self.mixup_alpha == 0,
            "cutmix_alpha: 0": self.cutmix_alpha == 0,
            "ema_decay: 0": self.ema_decay == 0,
            "sampler: {name: natural}": self.sampler.name == "natural",
        }
        missing = [need for need, there in needs.items() if not there]
        if self.trainable == "probe" and missing:
            raise ValueError(
                "trainable: probe solves the head once on all images as they are; set"
                f" {', '.join(missing)}"
            )
        return self

    @model_validator(mode="after")
    def _choices_suit_each_other(self) -> Self:
        if self.trainable != "all" and self.weights is None:
            raise ValueError(
                f"trainable: {self.trainable} on weights: null would freeze random layers"
            )
        if self.views > 1 and self.trainable in ("head", "probe"):
            raise ValueError(
                f"contrast: prototypes on trainable: {self.trainable} has no layers to shape; set"
                " trainable: all"
            )
        if self.views > 1 and max(self.mixup_alpha, self.cutmix_alpha) > 0:
            raise ValueError(
                "contrast: prototypes with mixup_alpha or cutmix_alpha: a mixture of two classes"
                " has no prototype; set both to 0, or contrast.name: none"
            )
        if isinstance(self.schedule, _WarmedUp) and self.schedule.warmup_epochs > self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs: {self.schedule.warmup_epochs:g} is more than epochs:"
                f" {self.epochs}, the peak rate would never be reached"
            )
        if self.accumulate > self.global_batch_size:
            raise ValueError(
                f"accumulate: {self.accumulate} parts of global_batch_size:"
                f" {self.global_batch_size} images, some would be empty"
            )
        return self
