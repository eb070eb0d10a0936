"""The final model: which network, in how many views, at which temperature."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.intervals import figure
from pipeline.evaluation.metrics.table import metric_named
from pipeline.evaluation.metrics.temperature import fit_temperature
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.views import draw_views
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.schema import TtaReport
from pipeline.evaluation.tta.network import NetworkChoice, choose_network
from pipeline.evaluation.tta.search import Choice, ViewPosteriors, choose_views, search_views
from pipeline.params import Params
from pipeline.params.choices.views import Identity, View
from pipeline.progress import watched
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import BASE, FINAL, PACKED, PICTURES, REPORTS, TUNED
from pipeline.vision.bundle.description import Views, rewrite_bundle
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities, view_posteriors
from pipeline.vision.inference.views import build_views, expand, view_names

_AS_IT_IS = Identity()
_FOLDERS = {"base": BASE, "tuned": TUNED}

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
    network = _choose_network(val, params)
    folder = _FOLDERS[network.name]
    bundle, items = load_matching(folder, test.info), expand(how.views)
    # Validation images come first: they warm up threads and caches before times are taken.
    validation, _ = _predict(val, bundle, items, params)
    on_test, seconds = _predict(test, bundle, items, params)
    steps = search_views(validation, on_test, bundle.classes, params.evaluate)
    choice = _choose(validation, steps, params)
    chosen = items[: choice.count or int(items[0] == _AS_IT_IS)]
    views = None if chosen in ([], [_AS_IT_IS]) else Views(tuple(chosen), how.mean, how.seed)
    temperature, calibration = _calibrate(validation, choice.count, how.calibrate)
    rewrite_bundle(folder, FINAL, views, temperature["value"])

    names = view_names(chosen)
    report = TtaReport.model_validate(
        {
            "metric": vars(metric_named(params.evaluate.metric)),
            "network": vars(network),
            "mean": how.mean,
            "seed": how.seed,
            "choose": how.choose,
            "calibration": calibration,
            "chosen": {"count": len(chosen), "views": names, "reason": choice.reason},
            "temperature": temperature,
            "steps": _with_costs(steps, view_names(items), seconds, len(test)),
        }
    )
    write_report(REPORTS / "tta.json", report)
    save(draw_views(report.steps, len(chosen)), PICTURES / "tta" / "views.png")
    taken = "; ".join(names) if views else "the image as it is"
    print(f"tta: {network.name}: {network.reason}")
    print(
        f"tta: {taken}: {choice.reason}; temperature {temperature['value']:.2f}:"
        f" {calibration['reason']} -> {FINAL}"
    )


def _choose_network(val: ImageSet, params: Params) -> NetworkChoice:
    posteriors = {}
    for name, folder in _FOLDERS.items():
        batches = watched(val.batches(BATCH_SIZE), len(val), "tta")
        posteriors[name] = probabilities(load_matching(folder, val.info), batches)
    labels = val.labels.astype(np.int64)
    return choose_network(labels, posteriors["base"], posteriors["tuned"], params.evaluate)


def _predict(
    images: ImageSet, bundle: Bundle, items: Sequence[View], params: Params
) -> tuple[ViewPosteriors, Sequence[float]]:
    """Return the posteriors of the images view by view, and the seconds of each view."""
    # The images as they are come last where they are no view: reading counts with the first.
    seen = items if _AS_IT_IS in items else [*items, _AS_IT_IS]
    views = build_views(seen, params.tta.seed, images.info.shape)
    batches = watched(images.batches(BATCH_SIZE), len(images), "tta")
    posteriors, seconds = view_posteriors(bundle, batches, views)
    plain, labels = posteriors[seen.index(_AS_IT_IS)], images.labels.astype(np.int64)
    count = len(items)
    return ViewPosteriors.of(labels, plain, posteriors[:count], params.tta.mean), seconds[:count]


def _choose(validation: ViewPosteriors, steps: Sequence[Block], params: Params) -> Choice:
    asked = params.tta.choose
    if asked == "auto":
        return choose_views(validation, steps, params.evaluate)
    return Choice(asked, f"tta.choose asks for {asked}")


def _calibrate(
    validation: ViewPosteriors, count: int, prior: Literal["natural", "balanced", "off"]
) -> tuple[Block, Block]:
    """Fit the temperature of the mean of `count` views, or of the images as they are at 0.

    Returns:
        The temperature that ships, 1 for none, and what `FittedTemperature` holds.
    """
    none = figure(1.0, np.ones(2))
    block: Block = {"prior": prior, "ships": False, "change": None}
    if prior == "off":
        return none, block | {"reason": "tta.calibrate is off"}
    posteriors = validation.steps[count - 1] if count else validation.plain
    found = fit_temperature(validation.labels, posteriors, prior)
    ships = found.change < 0
    reason = (
        f"{found.value:.2f}, fitted on {len(validation.labels)} validation images, is expected"
        f" {'' if ships else 'not '}to lower the NLL of others ({found.change:+.4f} nats)"
    )
    block |= {"ships": ships, "change": found.change, "reason": reason}
    if not ships:
        return none, block
    return figure(found.value, np.asarray([found.low, found.high])), block


def _with_costs(
    steps: Sequence[Block], names: Sequence[str], seconds: Sequence[float], images: int
) -> list[Block]:
    """Add to each step its views, and what it cost on the test images."""
    speeds = images / np.maximum(np.cumsum(seconds), 1e-9)
    return [
        {
            "views": list(names[:count]),
            **step,
            "cost": {"views_per_image": count, "images_per_s": round(float(speed), 1)},
        }
        for count, (step, speed) in enumerate(zip(steps, speeds, strict=True), 1)
    ]
