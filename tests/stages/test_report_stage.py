"""report on invented reports, and on the images that a champion's challenger changed."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.files import write_report
from pipeline.files import read_json, write_json
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
    for name in reports.SCHEMA:
        write_report(Path("reports") / f"{name}.json", getattr(page, name))
    write_json(Path("reports/retraining/calls.json"), [])
    write_recipes(None)
    images = np.full((IMAGES, 8, 8, 1), 99, np.uint8)
    write_set(Path("data/packed/test"), images, [row % 2 for row in range(IMAGES)], CLASSES)
    table = pa.table({"label": list(CLASSES), "split": ["train", "test"]})
    pq.write_table(table, "data/split.parquet")


def write_recipes(plan):
    for stage in ("train", "finetune"):
        values = {"plan": plan, "recipe": PARAMS.section(stage)}
        write_json(Path(f"models/compute/{stage}.json"), values)


def met():
    """Return a registration whose disagreements are images of `write_workspace`."""
    register = reports.met(CLASSES, IMAGES, champion=3.0, candidate=-3.0).model_dump(mode="json")
    for one in register["disagreements"]["listed"]:
        one["path"] = f"{CLASSES[one['row'] % 2]}/{one['row']}.png"
    assert register["disagreements"]["spoiled"] > 0
    return register


def run():
    report.run(PARAMS)
    return Path("reports/index.html").read_text(encoding="utf-8")


def test_images_that_changed_sides_are_shown():
    write_workspace(RegisterReport.model_validate(met()))
    page = run()
    assert CAPTION in page
    assert page.count("<img") == 1


def test_the_recipe_stands_there_as_params_state_it():
    write_workspace(reports.first())
    text = unescape(re.search(r"<pre>(recipe:.*?)</pre>", run(), re.DOTALL)[1])
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    copied = {**raw, **yaml.safe_load(text)}
    assert copied["recipe"]["name"] == "custom"
    Path("params.yaml").write_text(yaml.safe_dump(copied))
    assert load_params() == PARAMS


def test_a_recipe_that_was_made_says_why():
    write_workspace(reports.first())
    write_recipes({"name": "long_tail", "reason": "no <b>weights</b>", "seconds": 630.0})
    page = run()
    assert "Recipe <b>long_tail</b>, made for these images: no &lt;b&gt;weights" in page
    assert "expected to take 10 min" in page or "expected to take 11 min" in page
    write_json(Path("models/compute/train.json"), {"recipe": PARAMS.section("train")})
    with pytest.raises(PipelineError, match="it has no recipe"):
        run()


@pytest.mark.parametrize("register", [reports.first(), reports.unchanged()])
def test_without_another_model_there_are_none(register):
    write_workspace(register)
    assert CAPTION not in run()


@pytest.mark.parametrize("row", [-1, 3, 99])
def test_disagreements_on_other_images_are_named(row):
    register = met()
    one = register["disagreements"]["listed"][0]
    one["row"], one["path"] = row, "ant/0.png"
    write_workspace(RegisterReport.model_validate(register))
    message = (
        rf"register\.json is damaged \(disagreements: ant/0\.png is not row {row} of"
        r" data/packed/test"
    )
    with pytest.raises(PipelineError, match=message):
        report.run(PARAMS)


@pytest.mark.parametrize(
    "place", ["disagreements", "disagreements.listed.0.path", "checks.0.title"]
)
def test_a_registration_that_lacks_something_is_named(place):
    write_workspace(RegisterReport.model_validate(met()))
    path = Path("reports/register.json")
    register = read_json(path)
    *keys, last = place.split(".")
    part = register
    for key in keys:
        part = part[int(key) if key.isdigit() else key]
    del part[last]
    write_json(path, register)
    with pytest.raises(PipelineError, match=rf"^reports/register\.json lacks {re.escape(place)};"):
        report.run(PARAMS)
