"""`convoy compare`: two models on the same labelled images, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.data.sources.open import open_source
from pipeline.errors import PipelineError, some
from pipeline.evaluation.judging.disagreements import find_disagreements
from pipeline.evaluation.judging.findings import Disagreement
from pipeline.evaluation.judging.recalls import compare_recalls
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.disagreements import draw_disagreements
from pipeline.evaluation.reports.words import number
from pipeline.files import as_text, write_json
from pipeline.params import Params
from pipeline.runtime.registry.versions import find_bundle
from pipeline.vision.application.paired_evaluation import PairedEvaluation, evaluate_pair
from pipeline.vision.inference.bundle import load_bundle

Block = dict[str, Any]

_SHOWN_PATHS = 20
_SHOWN_IMAGES = 48


def run(
    params: Params, models: tuple[str, str], images: Path, output: Path | None, sheet: Path | None
) -> None:
    """Print the paired table and the images that only one model has right, and write files.

    Args:
        params: the settings of the metrics, the store, and where the images are.
        models: A and B: bundle folders, MLflow run ids or registry URIs.
        images: packed folder.
        output: a .json file, or None.
        sheet: a .png file, or None.

    Raises:
        PipelineError: no such model or images, an output of another kind, or no class in common.
    """
    _check_suffix("--output", output, ".json")
    _check_suffix("--sheet", sheet, ".png")
    packed = ImageSet.open(images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bundles = [load_bundle(find_bundle(name, params.tracking), device) for name in models]
    for name, bundle in zip(models, bundles, strict=True):
        if not set(bundle.classes) & set(packed.info.classes):
            raise PipelineError(
                f"{name} knows none of the classes of {images}: expected some of"
                f" {some(packed.info.classes)}, found {some(bundle.classes)}"
            )
    pair = evaluate_pair(bundles[0], bundles[1], packed, open_source(params.data.root))
    disagreements = find_disagreements(
        pair.labels, pair.first, pair.second, pair.classes, packed.paths
    )
    sides = {
        key: {"model": name, "bundle": bundle.digest}
        for key, name, bundle in zip("ab", models, bundles, strict=True)
    }
    result = {"images": as_text(images), **_judge(pair, sides, params)}
    result["right_to_wrong"] = [asdict(one) for one in disagreements if not one.mended]
    result["wrong_to_right"] = [asdict(one) for one in disagreements if one.mended]
    print("\n".join([*_table(result), *_listed(disagreements)]))
    if output is not None:
        write_json(output, result)
    if sheet is not None:
        _draw(disagreements, packed, sheet)


def _check_suffix(option: str, path: Path | None, suffix: str) -> None:
    if path is not None and (path.suffix != suffix or path.is_dir()):
        raise PipelineError(f"{option} {path}: expected the name of a file that ends in {suffix}")


def _judge(pair: PairedEvaluation, sides: dict[str, Block], params: Params) -> Block:
    """Measure each side and the differences."""
    how = params.evaluate
    labels, classes = pair.labels, pair.classes
    first, second = (Scored.of(labels, given, how) for given in (pair.first, pair.second))
    for side, model, seconds in zip(sides.values(), (first, second), pair.seconds, strict=True):
        side["ms_per_image"] = 1000 * seconds
        side["test"] = measure(model, classes)
    margin = params.register_.max_class_recall_loss
    recalls = compare_recalls(labels, pair.second, pair.first, classes, margin).classes
    return {
        **sides,
        "b_minus_a": compare(second, first),
        "classes": {
            name: {
                "support": change.support,
                "a": change.champion,
                "b": change.candidate,
                "loss": change.loss,
                "interval": change.interval,
            }
            for name, change in recalls.items()
        },
    }


def _table(result: Block) -> Iterator[str]:
    a, b, difference = result["a"], result["b"], result["b_minus_a"]
    yield f"A  {a['model']}"
    yield f"B  {b['model']}"
    yield ""
    yield f"{a['test']['images']:,} images of {result['images']}"
    yield f"{'':<20}{'A':>9}{'B':>9}{'B - A':>9}  95 % interval"
    for name, figure in difference.items():
        if isinstance(figure, dict) and figure.get("value") is not None:
            change, low, high = (
                number(one, sign=True, digits=4) for one in (figure["value"], *figure["ci95"])
            )
            values = (a["test"][name]["value"], b["test"][name]["value"])
            yield (
                f"{name.replace('_', ' '):<20}{values[0]:>9.4f}{values[1]:>9.4f}"
                f"{change:>9}  [{low}, {high}]"
            )
    times = a["ms_per_image"], b["ms_per_image"]
    yield f"{'ms per image':<20}{times[0]:>9.3f}{times[1]:>9.3f}{times[1] - times[0]:>+9.3f}"
    pairs = difference["mcnemar"]
    yield (
        f"only A is right on {pairs['only_second']}, only B on {pairs['only_first']}; McNemar"
        f" p = {pairs['p_value']:.3g}"
    )


def _listed(disagreements: Sequence[Disagreement]) -> Iterator[str]:
    """List the images that only one model has right, the most confident wrong answers first."""
    for title, mended in (("right in A, wrong in B", False), ("wrong in A, right in B", True)):
        found = [one for one in disagreements if one.mended == mended]
        yield ""
        yield f"{title}: {len(found)}"
        for one in found[:_SHOWN_PATHS]:
            yield (
                f"  {as_text(one.path)}  is {one.true}: {one.first}"
                f" {one.first_probability:.3f} -> {one.second} {one.second_probability:.3f}"
            )
        if len(found) > _SHOWN_PATHS:
            yield f"  and {len(found) - _SHOWN_PATHS} more; --output writes all"


def _draw(disagreements: Sequence[Disagreement], packed: ImageSet, sheet: Path) -> None:
    shown = disagreements[:_SHOWN_IMAGES]
    images = packed.gather(np.array([one.row for one in shown], dtype=np.int64))
    save(draw_disagreements(shown, list(images), len(disagreements), ("A", "B")), sheet)
