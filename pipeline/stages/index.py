"""Stage index: check and measure every image."""

from typing import Any

import pyarrow.parquet as pq

from pipeline.data.indexing.index import bad_rows, check_boxes, check_classes, index_report
from pipeline.data.indexing.verify import Limits
from pipeline.data.indexing.whole import index_measured, measure_source
from pipeline.data.sources.open import open_source
from pipeline.errors import PipelineError, some
from pipeline.files import atomic_path, repository, write_json
from pipeline.params import Params
from pipeline.stages import _paths


def run(params: Params) -> None:
    """Write data/index.parquet and reports/data.json."""
    section = params.index
    source = open_source(params.data.root)
    limits = Limits(section.max_pixels, section.min_side)
    cache = repository() / _paths.STATE / "index"
    measured, ignored = measure_source(source, limits, cache)
    check_boxes(measured, str(params.data.root))
    index = index_measured(measured, source, limits, section.near_duplicate_bits, cache)
    report = index_report(index, ignored)
    # Before anything stops the run, since repairing the data takes the list.
    write_json(_paths.DATA_REPORT, report)
    check_classes(index, _paths.DATA_REPORT)
    bad = bad_rows(index)
    if report["bad_fraction"] > section.max_bad_fraction:
        examples = some((f"{row['path']} ({row['problem']})" for row in bad.to_pylist()), 3)
        raise PipelineError(
            f"{len(bad)} of {len(index)} files in {params.data.root} cannot be used, more than"
            f" index.max_bad_fraction = {section.max_bad_fraction:g}: {examples}; all are listed"
            f" in {_paths.DATA_REPORT}; repair or remove them, or raise the fraction"
        )
    with atomic_path(_paths.INDEX) as temporary:
        pq.write_table(index, temporary, compression="zstd")
    _say(report)


def _say(report: dict[str, Any]) -> None:
    left_out = report["files"] - report["usable"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["problems"].items())
    print(
        f"index: {report['usable']} images in {len(report['classes'])} classes, {left_out} left"
        f" out{f' ({reasons})' if reasons else ''} -> {_paths.INDEX}, {_paths.DATA_REPORT}"
    )
    near = report["near_duplicates"]
    if near["clusters"]:
        print(f"index: {near['images']} images in {near['clusters']} groups of near duplicates")
    if report["ignored"]:
        print(
            f"index: ignored {len(report['ignored'])} files that lie beside the class folders or"
            f" are no images: {some(report['ignored'])}"
        )
