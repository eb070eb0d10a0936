"""The shape of params.yaml: one class per section.

No key of a section has a default: params.yaml states every value, so that what DVC tracks there
is what a result depends on. Only an option of a named choice, such as the `gamma` of a loss, has
one.
"""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pipeline.params._recipe import Recipe
from pipeline.params._retrain import Retrain
from pipeline.params._types import (
    LISTED,
    Count,
    CountOrZero,
    Fraction,
    Name,
    Need,
    NonNegative,
    Positive,
    Section,
    Seed,
    Share,
    misfits,
    refuse,
)
from pipeline.params.choices.networks import AnyModel
from pipeline.params.choices.training import Training
from pipeline.params.choices.transforms import Policy
from pipeline.params.choices.views import ViewItem, count_views

AutoOrCount = Annotated[Literal["auto"] | Count, Need("auto or a whole number from 1")]


class Data(Section):
    """Where the images are."""

    root: Name


class Sample(Section):
    """The embedded digits, drawn parcels, or a torchvision set by name."""

    seed: Seed
    source: Name
    imbalance_ratio: Annotated[float, Field(ge=1.0)]


class Index(Section):
    """What counts as a usable image."""

    max_pixels: Count
    min_side: Count
    max_bad_fraction: Fraction
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)]


def _is_pattern(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error}), repair it") from error
    return pattern


class Split(Section):
    """Which images train, which choose, which judge.

    `group_from` is a regular expression that is searched in an image's path: what its first group
    matches, or else all that it matches, names the group of the image.
    """

    seed: Seed
    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]
    across_given_splits: Literal["stop", "allow", "drop"]
    group_from: Annotated[Name | None, AfterValidator(_is_pattern)]

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.val + self.test >= 1.0:
            raise ValueError(f"val + test is {self.val + self.test:g}, need less than 1")
        return self


def _no_bool(value: object) -> object:
    if value is True:  # which equals 1
        raise ValueError("got true, need 1 or 3")
    return value


class Pack(Section):
    """How an image file becomes an array."""

    height: Count
    width: Count
    channels: Annotated[Literal[1, 3], BeforeValidator(_no_bool)]
    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[int, Field(ge=0, le=255)]
    bit_depth: Literal["auto", 8, 16]


class Balance(Section):
    """Synthetic images for the rare classes."""

    seed: Seed
    target: Literal["max", "median", "ratio", "effective"]
    ratio: Annotated[float, Field(gt=0.0, le=1.0)]
    beta: Share
    max_copies_per_image: CountOrZero
    policy: Policy
    per_class: dict[str, Policy]


class Baseline(Section):
    """The classical classifier on hand-crafted features; none is fitted with `none`.

    It is trained on at most `rows_per_class` images of a class. Its settings, and with `auto` the
    classifier itself, are chosen by cross-validation on `tuning_rows` of them.
    """

    seed: Seed
    classifier: Literal[
        "auto", "linear_discriminant", "logistic_regression", "random_forest", "svm", "none"
    ]
    class_weight: Literal["balanced", "none"]
    rows_per_class: Annotated[Count, Field(ge=2)]
    tuning_rows: Annotated[Count, Field(ge=10)]


class Evaluate(Section):
    """How figures and their intervals are computed.

    `metric`: what models are chosen and shipped by: the final network, its views, the gate.
    """

    seed: Seed
    metric: Literal["macro_f1", "balanced_accuracy", "accuracy"]
    bootstrap_resamples: Annotated[Count, Field(ge=100)]
    calibration_bins: Annotated[Count, Field(ge=2)]
    top_k: Annotated[tuple[Annotated[Count, Field(ge=2)], ...], LISTED]
    suspicious_images: Count


class Tta(Section):
    """Test-time augmentation: the views, how many are taken, and how their posteriors are averaged.

    `choose` counts views: those of a `random` item are as many as it draws. `calibrate`: for which
    shares of the classes the temperature is fitted: those of the validation images, or all alike.
    """

    seed: Seed
    mean: Literal["arithmetic", "geometric"]
    choose: AutoOrCount
    calibrate: Literal["natural", "balanced", "off"]
    views: Annotated[tuple[ViewItem, ...], LISTED, Field(min_length=1)]

    @field_validator("calibrate", mode="before")
    @classmethod
    def _was_a_switch(cls, value: Any) -> Any:
        if value is True:
            return refuse(value, ["got true, need natural, balanced or off; true meant natural"])
        return "off" if value is False else value  # YAML reads off as false

    @model_validator(mode="after")
    def _has_as_many_views(self) -> Self:
        count = count_views(self.views)
        mistake = f".choose: got {self.choose}, but there are {count} views; list more of them"
        return refuse(self, [mistake] if self.choose != "auto" and self.choose > count else [])


class Localize(Section):
    """Where the final model looks. `threshold`: of a map's maximum, where a box begins."""

    threshold: Annotated[
        float, Need("a number above 0 and at most 1", lambda share: 0.0 < share <= 1.0)
    ]


class Embed(Section):
    """Nearest neighbours in the latent space, and its map."""

    seed: Seed
    recall_at: Annotated[tuple[Count, ...], LISTED, Field(min_length=1)]
    map: Literal["test", "all"]


class Inspect(Section):
    """Layers, filters, and the activations of one image, which the seed chooses."""

    seed: Seed


class Register(Section):
    """The registered model and its gate.

    `baseline`: whether the gain over the baseline itself is above 0, or its interval.
    """

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
        Need("letters, digits and then also _ . -"),
    ]
    alias: Annotated[
        str,
        Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"),
        Need("a letter, then letters, digits, _ or -"),
    ]
    baseline: Literal["point", "interval"]
    min_gain_over_baseline: Fraction
    max_loss: Fraction
    max_class_recall_loss: Fraction
    max_ece_gain: Fraction
    max_latency_ratio: Positive

    @field_validator("alias")
    @classmethod
    def _alias_is_free(cls, alias: str) -> str:
        if alias == "latest" or re.fullmatch(r"v\d+", alias):
            return refuse(alias, [f"{alias} means a version to MLflow, take another"])
        kept = alias in ("previous", "challenger")
        return refuse(alias, [f"{alias} is an alias that Convoy sets itself, take another"] * kept)


class Report(Section):
    """The page."""

    title: Name


def _is_range(workers: int | tuple[int, int]) -> int | tuple[int, int]:
    if isinstance(workers, tuple) and workers[0] > workers[1]:
        raise ValueError(f"got {list(workers)}, need [fewest, most], in this order")
    return workers


# In place of an address: the cluster of the job that this process belongs to.
JOINED = "auto"


def _is_job_server(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"{address} is none; need the cluster's job server, such as http://HOST:8265"
        )
    return address


class Resources(Section):
    """What a training may use. Tracked by no stage: it changes speed, and rounding."""

    workers: Annotated[
        Count | Annotated[tuple[Count, Count], LISTED],
        AfterValidator(_is_range),
        Need("a whole number from 1, or two as [fewest, most]"),
    ]
    cpus_per_worker: Count | None
    gpus_per_worker: Annotated[
        Annotated[float, Field(ge=0.0, le=1.0)] | None,
        Need("null, or a number from 0 to 1: a worker computes on one GPU"),
    ]
    threads: AutoOrCount
    address: Annotated[Name, AfterValidator(_is_job_server)] | None
    storage: Annotated[Name, AfterValidator(os.path.expanduser)]
    checkpoint_interval_s: NonNegative
    max_failures: CountOrZero

    @model_validator(mode="after")
    def _no_gpu_is_shared(self) -> Self:
        share = self.gpus_per_worker
        if share and share < 1 and self.most_workers > 1:
            raise ValueError(
                f"gpus_per_worker: {share:g} for several workers, two of which might get the same"
                " GPU, where they cannot exchange gradients; set 1, 0 or null"
            )
        return self

    @property
    def runs(self) -> str:
        """The folder of this machine for the checkpoints and records of trainings.

        A bucket is for what several machines share; a training writes its checkpoints there only
        as a job.
        """
        here = self.address in (None, JOINED) and "://" not in self.storage
        return self.storage if here else ".convoy/runs"

    @property
    def most_workers(self) -> int:
        """The workers that a training uses where there is room for them."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]


class Tracking(Section):
    """The MLflow server; MLFLOW_TRACKING_URI overrides `uri`. Tracked by no stage.

    `system_metrics`: whether each node's load is logged while it trains.
    `checkpoints`: which epochs' weights a run keeps at the server as logged models: the best one,
    each that was better than those before, or none.
    """

    uri: Name
    experiment: Name
    system_metrics: bool
    checkpoints: Literal["best", "improved", "off"]

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: Any) -> Any:
        return "off" if value is False else value


class Start(Section):
    """What `train` starts from.

    `mode`: cold is `train.weights`, warm is the champion; auto tries both for `epochs` epochs each,
    and validation chooses.
    """

    mode: Literal["cold", "warm", "auto"]
    epochs: Count


class Params(Section):
    """params.yaml."""

    data: Data
    sample: Sample
    index: Index
    split: Split
    pack: Pack
    balance: Balance
    model: AnyModel
    recipe: Recipe
    start: Start
    train: Training
    finetune: Training
    baseline: Baseline
    evaluate: Evaluate
    tta: Tta
    localize: Localize
    embed: Embed
    inspect: Inspect
    register_: Register = Field(alias="register")
    report: Report
    retrain: Retrain
    resources: Resources
    tracking: Tracking

    @model_validator(mode="after")
    def _suits_the_images(self) -> Self:
        shape = (self.pack.height, self.pack.width, self.pack.channels)
        lists = {
            "balance.policy": self.balance.policy,
            **{f"balance.per_class.{name}": p for name, p in self.balance.per_class.items()},
            "train.augment": self.train.augment,
            "finetune.augment": self.finetune.augment,
            "tta.views": self.tta.views,
        }
        return refuse(
            self, [key + m for key, items in lists.items() for m in misfits(items, shape)]
        )

    @model_validator(mode="after")
    def _trials_are_short_trainings(self) -> Self:
        if self.start.mode != "auto" or self.recipe.made:
            return self
        epochs, most = self.start.epochs, self.train.epochs
        fewest = getattr(self.train.schedule, "warmup_epochs", 0)
        mistakes = []
        if epochs < fewest:
            mistakes = [f"at least train.schedule.warmup_epochs, {fewest:g}"]
        elif epochs > most:
            mistakes = [f"at most train.epochs, {most}"]
        return refuse(self, [f"start.epochs: got {epochs}, need {need}" for need in mistakes])

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain values, for digests and logs."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True)[name]
        return dumped
