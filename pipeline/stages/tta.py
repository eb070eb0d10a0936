"""The final model: which network, in how many views, at which temperature."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.intervals import figure
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.posteriors import MeanPosteriors
from pipeline.evaluation.metrics.scores import Floats, Ints
from pipeline.evaluation.metrics.table import Scored, metric_named
from pipeline.evaluation.metrics.temperature import fit_temperature
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.views import draw_views
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.schema import TtaReport
from pipeline.evaluation.reports.words import number
from pipeline.evaluation.tta.network import Name, NetworkChoice, choose_network
from pipeline.evaluation.tta.search import ViewSearch
from pipeline.params import Params
from pipeline.params.choices.views import Identity, View
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import BASE, FINAL, PACKED, PICTURES, REPORTS, TUNED
from pipeline.vision.bundle.description import Views, rewrite_bundle
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.sets import SeenIn, over_set
from pipeline.vision.inference.views import expand, view_names

_AS_IT_IS = Identity()
_FOLDERS: Mapping[Name, Path] = {"base": BASE, "tuned": TUNED}
# Which network of a recipe is the better one as a rule. On validation images the probe of
# `transfer` is flattered: its penalty is the best of some on them, and few of them are of rare
# classes. The second training of `long_tail` has not gained where it was measured on other images.
_FAVOURED: Mapping[str, Name | None] = {"custom": None, "long_tail": "base", "transfer": "tuned"}

Block = dict[str, Any]


def run(params: Params) -> None:
    """Choose models/base or models/tuned, and its views, on packed/val; write models/final.

    What the views are worth is shown on packed/test.

    Raises:
        PipelineError: there are no validation images; or see `build_views`.
    """
    how = params.tta
    val, test = (ImageSet.open(PACKED / name) for name in ("val", "test"))
    if not len(val):
        raise PipelineError(
            "expected validation images to choose views by, found none; raise split.val or add"
            " images"
        )
    network, plain = _choose_network(val, params)
    folder = _FOLDERS[network.name]
    bundle, items = load_matching(folder, test.info), expand(how.views)
    names = view_names(items)
    # Validation images came first: they warm up threads and caches before times are taken.
    validation = _Averaged("validation", val, bundle, params, plain)
    on_test = _Averaged("test", test, bundle, params)
    search = ViewSearch(validation.as_it_is, len(items), how.choose)
    steps: list[Block] = []
    while (choice := search.choice) is None:
        item, name = items[len(steps)], names[len(steps)]
        gain = search.add(validation.with_view(item, name))
        averaged = on_test.with_view(item, name)
        steps.append(
            {
                "views": names[: len(steps) + 1],
                "validation": _gain(gain),
                "test": measure(averaged, bundle.classes),
                **_gain(compare(averaged, on_test.as_it_is)),
                "cost": {
                    "views_per_image": len(steps) + 1,
                    "images_per_s": round(len(test) / max(on_test.seconds, 1e-9), 1),
                },
            }
        )
    chosen = items[: choice.count or int(items[0] == _AS_IT_IS)]
    views = None if chosen in ([], [_AS_IT_IS]) else Views(tuple(chosen), how.mean, how.seed)
    temperature, calibration = _calibrate(
        validation.labels, validation.mean.value() if choice.count else plain, how.calibrate
    )
    rewrite_bundle(folder, FINAL, views, temperature["value"])

    metric = metric_named(params.evaluate.metric)
    taken, untried = names[: len(chosen)], names[len(steps) :]
    report = TtaReport.model_validate(
        {
            "metric": vars(metric),
            "network": vars(network),
            "mean": how.mean,
            "seed": how.seed,
            "choose": how.choose,
            "calibration": calibration,
            "chosen": {
                "count": len(chosen),
                "views": taken,
                "reason": choice.reason,
                "untried": untried,
                "why_untried": choice.untried,
            },
            "temperature": temperature,
            "steps": steps,
        }
    )
    write_report(REPORTS / "tta.json", report)
    save(draw_views(report.steps, len(taken), report.metric), PICTURES / "tta" / "views.png")
    print(f"tta: {network.name}: {network.reason}")
    if untried:
        print(f"tta: not tried: {'; '.join(untried)}: {choice.untried}")
    print(
        f"tta: {'; '.join(taken) if views else 'the image as it is'}: {choice.reason}; temperature"
        f" {temperature['value']:.2f}: {calibration['reason']} -> {FINAL}"
    )


class _Averaged:
    """What a model says of one set of images as they are, and in the mean of more and more views.

    Attributes:
        labels: n class numbers.
        as_it_is: the model on the images as they are.
        mean: of the posteriors in all views so far.
        seconds: that these views took.
    """

    def __init__(
        self,
        title: str,
        images: ImageSet,
        bundle: Bundle,
        params: Params,
        plain: Floats | None = None,
    ) -> None:
        """Begin with the images as they are.

        Args:
            title: of the images, for progress bars.
            images: packed.
            bundle: the model.
            params: the metric, the mean and the seed.
            plain: what the model says of the images as they are; None asks it.
        """
        self._title, self._images, self._bundle = title, images, bundle
        self._how, self._seed = params.evaluate, params.tta.seed
        self.labels = images.labels.astype(np.int64)
        self.mean = MeanPosteriors(params.tta.mean)
        self.seconds = 0.0
        if plain is None:
            plain = self._see(_AS_IT_IS, "the images as they are")
        self.as_it_is = Scored.of(self.labels, plain, self._how)

    def with_view(self, view: View, name: str) -> Scored:
        """Take in a further view, and return the model on the mean of all so far."""
        begin = time.perf_counter()
        self.mean.add(self._see(view, name))
        self.seconds += time.perf_counter() - begin
        return Scored.of(self.labels, self.mean.value(), self._how)

    def _see(self, view: View, name: str) -> Floats:
        label = f"tta: {name}, {self._title} images"
        return over_set(SeenIn(view, self._seed), self._bundle, self._images, label)


def _gain(compared: Block) -> Block:
    only = compared["mcnemar"]
    return {"gain": compared, "mended": only["only_first"], "spoiled": only["only_second"]}


def _choose_network(val: ImageSet, params: Params) -> tuple[NetworkChoice, Floats]:
    """Return the network that ships, and what it says of the validation images as they are."""
    labels = val.labels.astype(np.int64)
    posteriors, scored, bundles = {}, {}, {}
    for name, folder in _FOLDERS.items():
        bundles[name] = load_matching(folder, val.info)
        label = f"tta: {name}, validation images"
        posteriors[name] = over_set(SeenIn(_AS_IT_IS, 0), bundles[name], val, label)
        scored[name] = Scored.of(labels, posteriors[name], params.evaluate)
    recipe = params.recipe.resolved(pretrained=not bundles["base"].description.from_scratch)
    choice = choose_network(scored["base"], scored["tuned"], _FAVOURED[recipe])
    return choice, posteriors[choice.name]


def _calibrate(
    labels: Ints, posteriors: Floats, prior: Literal["natural", "balanced", "off"]
) -> tuple[Block, Block]:
    """Fit the temperature of the final model on validation images.

    Args:
        labels: n class numbers.
        posteriors: n x k, in the views that are taken.
        prior: what it is fitted for.

    Returns:
        The temperature that ships, 1 for none, and what `FittedTemperature` holds.
    """
    none = figure(1.0, np.ones(2))
    block: Block = {"prior": prior, "ships": False, "change": None}
    if prior == "off":
        return none, block | {"reason": "tta.calibrate is off"}
    found = fit_temperature(labels, posteriors, prior)
    ships = found.change < 0
    reason = (
        f"{found.value:.2f}, fitted on {len(labels)} validation images, is expected"
        f" {'' if ships else 'not '}to lower the NLL of others"
        f" ({number(found.change, sign=True, digits=4)} nats)"
    )
    block |= {"ships": ships, "change": found.change, "reason": reason}
    if not ships:
        return none, block
    return figure(found.value, np.asarray([found.low, found.high])), block
