"""One self-contained page that a person opens."""

from pipeline.evaluation.report import Page, count_split, find_pictures, render
from pipeline.files import atomic_path, read_report
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.stages._paths import PICTURES, REPORTS, SPLIT

_REPORTS = ("data", "balance", "baseline", "evaluate", "tta", "retrieve", "register")


def run(params: Params) -> None:
    """Write reports/index.html from the reports and pictures of all stages."""
    split = read_table(SPLIT, ["label", "split"])
    page = Page(
        title=params.report.title,
        split=count_split(split["label"].to_pylist(), split["split"].to_pylist()),
        pictures=find_pictures(PICTURES),
        **{name: read_report(REPORTS / f"{name}.json") for name in _REPORTS},
    )
    target = REPORTS / "index.html"
    with atomic_path(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB")
