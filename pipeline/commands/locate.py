"""`convoy locate`: where images show a class, from a network that only learned labels."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.commands._inputs import UnusableFiles, check_output, find_files, open_model
from pipeline.errors import PipelineError, did_you_mean, some
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.located import LocatedImage, draw_located
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.localize import DEFAULT_THRESHOLD, LocalizeReport
from pipeline.files import as_text
from pipeline.progress import command_clock, watched
from pipeline.stages._paths import REPORTS
from pipeline.vision.application.locate import Found, locate_files
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.location.located import Location

_SHOWN = 48  # images of a sheet
_NOTHING = (0.0, 0.0, 0.0, 0.0)
_COLUMNS, _LARGE_COLUMNS = 6, 2
_WHOLE = 0.9  # of an image: a box that covers as much does not say where


@command_clock("locate")
def run(
    paths: Sequence[Path],
    model: str,
    asked: str | None,
    threshold: float | None,
    output: Path,
    *,
    full_size: bool,
    as_json: bool,
) -> None:
    """Print class, probability and box of each image, and draw their maps.

    A file that cannot be used is named on stderr; the others are located.

    Args:
        paths: files, or folders that are searched for files.
        model: a bundle folder, an MLflow run id or a registry URI.
        asked: name of the class to look for; None for the one that is predicted.
        threshold: where boxes begin, relative to a map's maximum; None for what validation boxes
            chose for this very model, else that of params.yaml or `DEFAULT_THRESHOLD`. These last
            two fit no model in particular: a box of theirs around the whole image is left out.
        output: a .png file for a sheet, or a folder for a picture of each image.
        full_size: keep the resolution of images that are larger than the network's input.
        as_json: print JSON.

    Raises:
        PipelineError: no such path, model or class, no usable file, a wrong threshold, or an
            output that cannot be written.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise PipelineError(
            f"--threshold is {threshold:g}; expected more than 0 and at most 1, relative to the"
            " map's maximum"
        )
    single = _is_sheet(output)
    files = find_files(paths)
    bundle = open_model(model)
    label = None if asked is None else _class(bundle, asked)
    above, chosen = _chosen(bundle) if threshold is None else (threshold, True)
    found = locate_files(bundle, files, label, above, full_size=full_size)
    if not chosen:
        found = map(_without_whole, found)
    drawn: list[LocatedImage] = []
    rows, unusable, usable = [], UnusableFiles(len(files)), 0
    for (one,) in watched(_singly(found), len(files), "locate"):
        if one.location is None:
            unusable.add(one.problem)
        else:
            usable += 1
            if not single:
                _save_one(bundle, one, one.location, output / _name(one.path, usable))
            elif len(drawn) < _SHOWN:
                drawn.append(_drawn(bundle, one, one.location))
            if not as_json:
                print(_line(bundle, one, one.location), flush=True)
        if as_json:
            rows.append(_as_json(bundle, one))
    if not usable:
        raise unusable.none_is("an image that can be located")
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    if single:
        more = usable - len(drawn)
        heading = (
            f"What speaks for the class; boxes from {above:g} of the map's maximum"
            + ("" if chosen else ", but for those of the whole image")
            + (f"; {more} more images are not drawn" if more else "")
        )
        save(draw_located(drawn, heading, _LARGE_COLUMNS if full_size else _COLUMNS), output)


def _singly(found: Iterator[Found]) -> Iterator[tuple[Found]]:
    """Yield batches of one, as `watched` counts batches."""
    yield from ((one,) for one in found)


def _class(bundle: Bundle, name: str) -> int:
    if name not in bundle.classes:
        nearest = did_you_mean(name, bundle.classes) or f": it has {some(bundle.classes, 10)}"
        raise PipelineError(f"--class {name}: the model has no such class{nearest}")
    return bundle.classes.index(name)


def _chosen(bundle: Bundle) -> tuple[float, bool]:
    """Return the stage localize's threshold for this model, and whether validation chose it."""
    path = REPORTS / "localize.json"
    if path.is_file():
        report = read_report(path, LocalizeReport)
        if report.model == bundle.digest:
            return report.threshold, report.chosen_on == "validation"
    return DEFAULT_THRESHOLD, False


def _is_sheet(output: Path) -> bool:
    """Make sure that the output can be written; return whether it is one picture, or a folder."""
    single = output.suffix == ".png"
    if not single and output.suffix and not output.is_dir():
        raise PipelineError(f"--output {output}: expected a name that ends in .png, or a folder's")
    check_output(output if single else output / "image.png", (".png",))
    return single


def _without_whole(one: Found) -> Found:
    """Take away a box that covers the image."""
    if one.location is None or np.prod(one.location.frame[2:]) < _WHOLE * one.location.heights.size:
        return one
    return replace(one, location=replace(one.location, box=None, frame=_NOTHING))


def _line(bundle: Bundle, one: Found, location: Location) -> str:
    """Format one answer: path, class, probability, box and method."""
    if location.box is None:
        box = f"no box: {_why_none(location)}"
    else:
        box = "box " + " ".join(f"{name} {value:.0f}" for name, value in _named(location.box))
    name = bundle.classes[location.label]
    return f"{as_text(one.path)}\t{name} {location.probability:.3f}\t{box}\t{location.method}"


def _why_none(location: Location) -> str:
    if not location.heights.any():
        return "nothing speaks for the class"
    if location.frame == _NOTHING:
        return "it would be the whole image; a higher --threshold makes it smaller"
    return "what speaks for the class lies in the padding"


def _named(box: tuple[float, float, float, float]) -> list[tuple[str, float]]:
    return list(zip("xywh", box, strict=True))


def _as_json(bundle: Bundle, one: Found) -> dict[str, Any]:
    at = one.location
    return {
        "path": as_text(one.path),
        "class": at and bundle.classes[at.label],
        "probability": at and at.probability,
        "box": dict(_named(at.box)) if at and at.box else None,
        "method": at and at.method,
        "problem": one.problem,
    }


def _drawn(bundle: Bundle, one: Found, location: Location) -> LocatedImage:
    said = f"{bundle.classes[location.label]}, {location.probability:.0%}"
    frame = location.frame if location.box else None
    return LocatedImage(location.image, location.heights, said, as_text(one.path), frame)


def _name(path: Path, number: int) -> str:
    """Name the picture of an image; the number keeps apart equal names of different folders."""
    return f"{number:05d}_{as_text(Path(path.name))}.png"


def _save_one(bundle: Bundle, one: Found, location: Location, picture: Path) -> None:
    save(draw_located([_drawn(bundle, one, location)], "", 1), picture)
