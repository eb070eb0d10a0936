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
from pipeline.evaluation.judging.disagreements import Disagreement, find_disagreements
from pipeline.evaluation.judging.gate import compare_recalls
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.plots._style import save
from pipeline.evaluation.plots.disagreements import draw_disagreements
from pipeline.files import as_text, write_json
from pipeline.params import Evaluate, Params
from pipeline.runtime.registry.versions import find_bundle
from pipeline.vision.application.paired_evaluation import PairedEvaluation, hold
from pipeline.vision.inference.bundle import load_bundle

Block = dict[str, Any]

_SHOWN_PATHS = 20
_SHOWN_IMAGES = 48


def run(
    params: Params, models: tuple[str, str], images: Path, output: Path | None, sheet: Path | None
) -> None:
    """Print the paired table and the flipped images, and write what is asked for.

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
    contest = hold(bundles[0], bundles[1], packed, open_source(params.data.root))
    flips = find_disagreements(
        contest.labels, contest.first, contest.second, contest.classes, packed.paths
    )
    sides = {
        key: {"model": name, "bundle": bundle.digest}
        for key, name, bundle in zip("ab", models, bundles, strict=True)
    }
    result = {"images": as_text(images), **_judge(contest, sides, params.evaluate)}
    result["right_to_wrong"] = [asdict(flip) for flip in flips if not flip.mended]
    result["wrong_to_right"] = [asdict(flip) for flip in flips if flip.mended]
    print("\n".join([*_table(result), *_listed(flips)]))
    if output is not None:
        write_json(output, result)
    if sheet is not None:
        _draw(flips, packed, sheet)


def _check_suffix(option: str, path: Path | None, suffix: str) -> None:
    if path is not None and (path.suffix != suffix or path.is_dir()):
        raise PipelineError(f"{option} {path}: expected the name of a file that ends in {suffix}")


def _judge(contest: PairedEvaluation, sides: dict[str, Block], how: Evaluate) -> Block:
    """Measure each side and the differences."""
    labels, classes = contest.labels, contest.classes
    answers = contest.first, contest.second
    for side, given, seconds in zip(sides.values(), answers, contest.seconds, strict=True):
        side["ms_per_image"] = 1000 * seconds
        side["test"] = measure(labels, given, classes, how)
    recalls = compare_recalls(labels, contest.second, contest.first, classes)
    return {
        **sides,
        "b_minus_a": compare(labels, contest.second, contest.first, how),
        "classes": {
            name: {
                "support": block["support"],
                "a": block["champion"],
                "b": block["candidate"],
                "loss": block["loss"],
                "interval": block["interval"],
            }
            for name, block in recalls.items()
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
        if figure.get("value") is not None:
            low, high = figure["ci95"]
            values = (a["test"][name]["value"], b["test"][name]["value"])
            yield (
                f"{name.replace('_', ' '):<20}{values[0]:>9.4f}{values[1]:>9.4f}"
                f"{figure['value']:>+9.4f}  [{low:+.4f}, {high:+.4f}]"
            )
    times = a["ms_per_image"], b["ms_per_image"]
    yield f"{'ms per image':<20}{times[0]:>9.3f}{times[1]:>9.3f}{times[1] - times[0]:>+9.3f}"
    pairs = difference["mcnemar"]
    yield (
        f"only A is right on {pairs['only_second']}, only B on {pairs['only_first']}; McNemar"
        f" p = {pairs['p_value']:.3g}"
    )


def _listed(flips: Sequence[Disagreement]) -> Iterator[str]:
    """Say which images changed sides, the wrong answers that are most sure first."""
    for title, mended in (("right in A, wrong in B", False), ("wrong in A, right in B", True)):
        found = [flip for flip in flips if flip.mended == mended]
        yield ""
        yield f"{title}: {len(found)}"
        for flip in found[:_SHOWN_PATHS]:
            yield (
                f"  {as_text(flip.path)}  is {flip.true}: {flip.first}"
                f" {flip.first_probability:.3f} -> {flip.second} {flip.second_probability:.3f}"
            )
        if len(found) > _SHOWN_PATHS:
            yield f"  and {len(found) - _SHOWN_PATHS} more; --output writes all"


def _draw(flips: Sequence[Disagreement], packed: ImageSet, sheet: Path) -> None:
    shown = flips[:_SHOWN_IMAGES]
    images = packed.gather(np.array([flip.row for flip in shown], dtype=np.int64))
    save(draw_disagreements(shown, list(images), len(flips), ("A", "B")), sheet)
