"""One self-contained page that a person opens."""

from pathlib import Path
from typing import Any

from pipeline.errors import some
from pipeline.evaluation.report import Page, count_split, find_pictures, render
from pipeline.evaluation.shapes import REPORTS as SHAPES
from pipeline.evaluation.shapes import check_shape
from pipeline.files import atomic_path, damaged, read_report
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages._paths import PICTURES, REPORTS, SPLIT


def run(params: Params) -> None:
    """Write reports/index.html from the reports and pictures of all stages."""
    table = read_table(SPLIT, ["label", "split"])
    labels, splits = table["label"].to_pylist(), table["split"].to_pylist()
    if strange := set(splits) - {"train", "val", "test"}:
        raise damaged(SPLIT, f"expected splits train, val and test, found {some(strange, 1)}")
    page = Page(
        title=params.report.title,
        split=count_split(labels, splits),
        pictures=find_pictures(PICTURES),
        **{name: _read(REPORTS / f"{name}.json", shape) for name, shape in SHAPES.items()},
    )
    target = REPORTS / "index.html"
    with atomic_path(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB")


def _read(path: Path, shape: Any) -> Any:
    return check_shape(read_report(path), shape, path)
