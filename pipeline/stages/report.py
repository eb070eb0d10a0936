"""One self-contained page that a person opens."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import some
from pipeline.evaluation.judging.disagreements import Disagreement
from pipeline.evaluation.page import Page, count_split, find_pictures, render
from pipeline.evaluation.reports.schema import FLIPS, check_shape
from pipeline.evaluation.reports.schema import REPORTS as SHAPES
from pipeline.files import atomic_path, damaged, read_report
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages._paths import PACKED, PICTURES, REPORTS, SPLIT


def run(params: Params) -> None:
    """Write reports/index.html from the reports and pictures of all stages."""
    table = read_table(SPLIT, ["label", "split"])
    labels, splits = table["label"].to_pylist(), table["split"].to_pylist()
    if strange := set(splits) - {"train", "val", "test"}:
        raise damaged(SPLIT, f"expected splits train, val and test, found {some(strange, 1)}")
    reports = {name: _read(REPORTS / f"{name}.json", shape) for name, shape in SHAPES.items()}
    page = Page(
        title=params.report.title,
        split=count_split(labels, splits),
        pictures=find_pictures(PICTURES) | _flips(reports["register"]),
        **reports,
    )
    target = REPORTS / "index.html"
    with atomic_path(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB")


def _read(path: Path, shape: Any) -> Any:
    return check_shape(read_report(path), shape, path)


def _flips(register: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the images that changed sides against the champion, as 'report/flips'.

    Raises:
        PipelineError: register.json lists images that packed/test does not have.
    """
    path = REPORTS / "register.json"
    found = check_shape({"flips": register.get("flips")}, {"flips": FLIPS}, path)["flips"]
    if not found or not found["listed"]:
        return {}
    from pipeline.evaluation.plots.disagreements import draw_disagreements

    images = ImageSet.open(PACKED / "test")
    flips = [Disagreement(**entry) for entry in found["listed"]]
    for flip in flips:
        if not 0 <= flip.row < len(images) or images.paths[flip.row] != flip.path:
            raise damaged(path, f"flips: {flip.path} is not row {flip.row} of {PACKED / 'test'}")
    shown = images.gather(np.array([flip.row for flip in flips], dtype=np.int64))
    buffer = io.BytesIO()
    total = found["mended"] + found["spoiled"]
    draw_disagreements(flips, list(shown), total, ("was", "now")).savefig(buffer, format="png")
    return {"report/flips": buffer.getvalue()}
