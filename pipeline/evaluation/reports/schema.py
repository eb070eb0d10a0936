"""What the stages report of models: baseline.json, evaluate.json and tta.json.

A stage builds and writes its report, and readers get the same object. Reading needs neither numpy
nor the metrics themselves: a report lists what its figures are called, and which way is better.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """A report, or a part of one. Keys that it does not know are ignored."""

    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


class Figure(Part):
    """A value with its 95 % interval; the value is None where it is not defined."""

    value: float | None
    ci95: tuple[float, float]


class MetricInfo(Part):
    """What readers of a report need to know of a metric; see `metrics.table.Metric`."""

    name: str
    title: str
    judges: Literal["answers", "confidence"]
    lower_is_better: bool

    @property
    def noun(self) -> str:
        """The title within a sentence."""
        return self.title[0].lower() + self.title[1:]


class _Figures(Part):
    """Figures by the names of their metrics, whichever there are, beside other fields."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure] = Field(init=False)
    _last: ClassVar[str] = ""  # the field that stands behind the figures in the file

    @property
    def figures(self) -> dict[str, Figure]:
        """Figures by metric."""
        return {name: value for name, value in self if isinstance(value, Figure)}

    @model_serializer(mode="wrap")
    def _in_order(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return dict(sorted(values.items(), key=lambda item: item[0] == self._last))


def require_figures(
    figures: Mapping[str, Figure], metrics: Iterable[MetricInfo], place: str
) -> None:
    """Make sure that a report holds each of its metrics.

    Args:
        figures: by metric.
        metrics: that the report lists.
        place: of the figures in the report.

    Raises:
        PydanticCustomError: one is missing; names its place.
    """
    for metric in metrics:
        if metric.name not in figures:
            raise _lacks(f"{place}.{metric.name}")


def _lacks(place: str) -> PydanticCustomError:
    return PydanticCustomError("lacks", "lacks {place}", {"place": place})


class ClassFigures(Part):
    """What a model does on the images of one class."""

    support: int
    precision: Figure
    recall: Figure
    f1: Figure
    average_precision: Figure


class Measured(_Figures):
    """A model on a set of images: each metric of the table."""

    images: int
    accuracy: Figure
    balanced_accuracy: Figure
    macro_f1: Figure
    per_class: dict[str, ClassFigures]
    _last = "per_class"


class McNemar(Part):
    """Images that only one of two models has right, and the exact p-value of that."""

    only_first: int
    only_second: int
    p_value: float


class Comparison(_Figures):
    """First minus second model, on the same images: each metric of the table.

    Attributes:
        same_answers: whether both name the same class for each image.
    """

    macro_f1: Figure
    same_answers: bool
    mcnemar: McNemar
    _last = "mcnemar"


class Calibration(Part):
    """A temperature, and the metrics of confidence with it: values, and paired changes by it."""

    images: int
    temperature: Figure
    test: dict[str, Figure]
    change: dict[str, Figure]


class Model(Part):
    """A model on the test images."""

    test: Measured
    calibration: Calibration


class Confusion(Part):
    """How many images of one class were taken for another."""

    true: str
    predicted: str
    images: int
    share: Figure


class FinalModel(Model):
    """The model that is shipped."""

    confusions: tuple[Confusion, ...]


class SizeGroup(Part):
    """Classes with like numbers of training images, and each model's mean recall of them."""

    name: str
    classes: int
    fewest: int
    most: int
    recall: dict[str, Figure]


class EvaluateReport(Part):
    """evaluate.json: the models, the simplest first, and each minus each earlier one.

    Attributes:
        metrics: what each model is judged by, in order.
        baseline: None where `baseline.classifier` is none.
        class_sizes: the classes by their size, the largest first; empty where they are alike.
    """

    metrics: tuple[MetricInfo, ...]
    baseline: Model | None
    base: Model
    tuned: Model
    final: FinalModel
    comparisons: dict[str, Comparison]
    class_sizes: tuple[SizeGroup, ...] = ()

    @property
    def models(self) -> dict[str, Model]:
        """The models by name, the simplest first; the last is the one that is shipped."""
        models = {"baseline": self.baseline} if self.baseline else {}
        return models | {"base": self.base, "tuned": self.tuned, "final": self.final}

    @model_validator(mode="after")
    def _has_each_metric(self) -> Self:
        of_confidence = [metric for metric in self.metrics if metric.judges == "confidence"]
        for name, model in self.models.items():
            calibration = model.calibration
            require_figures(model.test.figures, self.metrics, f"{name}.test")
            require_figures(calibration.test, of_confidence, f"{name}.calibration.test")
            require_figures(calibration.change, of_confidence, f"{name}.calibration.change")
        for earlier, later in combinations(self.models, 2):
            name = f"{later}_minus_{earlier}"
            if name not in self.comparisons:
                raise _lacks(f"comparisons.{name}")
            figures = self.comparisons[name].figures
            require_figures(figures, self.metrics, f"comparisons.{name}")
        return self


class Importance(Part):
    """How much a feature matters to the baseline."""

    feature: str
    importance: float


class GroupLoss(Part):
    """How much accuracy the baseline loses on validation images without a group of features."""

    group: str
    loss: float


class BaselineTrial(Part):
    """A classifier with settings, and what it reached in cross-validation; None: not tried."""

    classifier: str
    settings: dict[str, int | float | str]
    score: float | None


class BaselineReport(Part):
    """baseline.json: the hand-crafted classifier; with the classifier 'none', no `test`.

    Attributes:
        classifier: the chosen one.
        settings: of it.
        tried: what was compared, in the order of trial.
        training_images: how many it was trained on.
        most_important: features; none of an SVM.
        groups: of features, the one that matters most first.
    """

    classifier: str
    settings: dict[str, int | float | str] = {}
    tried: tuple[BaselineTrial, ...] = ()
    training_images: int = 0
    features: int
    test: Measured | None
    most_important: tuple[Importance, ...]
    groups: tuple[GroupLoss, ...] = ()


class Gain(Part):
    """Averaged views against the images as they are."""

    gain: Comparison
    mended: int
    spoiled: int


class Cost(Part):
    """What averaged views cost."""

    views_per_image: int
    images_per_s: float


class Step(Gain):
    """The views so far, averaged, on test images and on validation images."""

    views: tuple[str, ...] = Field(min_length=1)
    validation: Gain
    test: Measured
    cost: Cost


class ChosenViews(Part):
    """The views of the final model; none where it takes images as they are.

    Attributes:
        untried: of `tta.views`, those that were not tried.
        why_untried: a clause; empty where all were tried.
    """

    count: int
    views: tuple[str, ...]
    reason: str
    untried: tuple[str, ...]
    why_untried: str


class FittedTemperature(Part):
    """Whether a temperature ships.

    Attributes:
        prior: what it was fitted for; 'off' where none was.
        ships: whether the final model carries it.
        change: of the NLL that is expected of it, in nats; None where none was fitted.
        reason: why it ships or not, a clause.
    """

    prior: Literal["natural", "balanced", "off"]
    ships: bool
    change: float | None
    reason: str


class ChosenNetwork(Part):
    """The network that ships, by the metric on validation images; `difference` is tuned - base."""

    name: Literal["base", "tuned"]
    base: float
    tuned: float
    difference: Figure
    reason: str


class TtaReport(Part):
    """tta.json: the final model: its network, its views and its temperature.

    Attributes:
        metric: that the network and the views are chosen by.
        network: which one ships.
        steps: what views gain, one step for each further view.
    """

    metric: MetricInfo
    network: ChosenNetwork
    mean: str
    seed: int
    choose: JsonValue
    calibration: FittedTemperature
    chosen: ChosenViews
    temperature: Figure
    steps: tuple[Step, ...] = Field(min_length=1)
