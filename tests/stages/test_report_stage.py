"""report on invented reports, and on the images that a champion's challenger changed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.schema import REPORTS, check_shape
from pipeline.files import write_json
from pipeline.params import load_params
from pipeline.stages import report
from tests import reports
from tests.packed import write_set

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CLASSES = ("ant", "bee")
IMAGES = 12
CAPTION = "Images that changed sides."


def write_workspace(register):
    page = reports.make_page(CLASSES, IMAGES, register)
    for name, shape in REPORTS.items():
        path = Path("reports") / f"{name}.json"
        write_json(path, check_shape(getattr(page, name), shape, path))
    images = np.full((IMAGES, 8, 8, 1), 99, np.uint8)
    write_set(Path("data/packed/test"), images, [row % 2 for row in range(IMAGES)], CLASSES)
    table = pa.table({"label": list(CLASSES), "split": ["train", "test"]})
    pq.write_table(table, "data/split.parquet")


def met():
    """Return a registration whose flips are images of `write_workspace`."""
    register = reports.met(CLASSES, IMAGES, champion=3.0, candidate=-3.0)
    for flip in register["flips"]["listed"]:
        flip["path"] = f"{CLASSES[flip['row'] % 2]}/{flip['row']}.png"
    assert register["flips"]["spoiled"] > 0
    return register


def run():
    report.run(PARAMS)
    return Path("reports/index.html").read_text(encoding="utf-8")


def test_images_that_changed_sides_are_shown():
    write_workspace(met())
    page = run()
    assert CAPTION in page
    assert page.count("<img") == 1


@pytest.mark.parametrize("register", [reports.first(), reports.unchanged()])
def test_without_another_model_there_are_none(register):
    write_workspace(register)
    assert CAPTION not in run()


def test_what_was_settled_before_there_were_flips_needs_none():
    register = met()
    del register["flips"]
    write_workspace(register)
    assert CAPTION not in run()


@pytest.mark.parametrize("row", [-1, 3, 99])
def test_flips_of_other_images_are_told(row):
    register = met()
    flip = register["flips"]["listed"][0]
    flip["row"], flip["path"] = row, "ant/0.png"
    write_workspace(register)
    message = rf"register\.json is damaged \(flips: ant/0\.png is not row {row} of data/packed/test"
    with pytest.raises(PipelineError, match=message):
        report.run(PARAMS)


def test_flips_of_another_shape_are_told():
    register = met()
    del register["flips"]["listed"][0]["path"]
    write_workspace(register)
    with pytest.raises(
        PipelineError, match=r"^reports/register\.json lacks flips\.listed\.0\.path"
    ):
        report.run(PARAMS)
