"""The page of the reports that all these stages wrote, and of damaged ones."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.stages import report
from pipeline.vision.inference.bundle import load_bundle
from tests.stages.evaluation.project import PARAMS, read


def test_the_page_shows_every_picture(inside):
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(list(Path("reports/pictures").glob("*/*.png"))) == 18
    assert len(page) < 5_000_000
    assert "dots &lt;b&gt;" in page
    assert "<em>Not yet.</em>" in page


def test_inspect_describes_the_final_model(inside):
    found = read("reports/network.json")
    network = load_bundle(Path("models/final")).network
    assert found["totals"]["parameters"] == sum(p.numel() for p in network.parameters())
    assert found["layers"][0]["output"] == [6, 16, 16]
    for name in ("filters", "activations"):
        with Image.open(f"reports/pictures/inspect/{name}.png") as picture:
            assert picture.width == 1368  # as wide as a page
    page = Path("reports/index.html").read_text()
    assert 'id="network"' in page
    assert "convolution 5x5 p2" in page


@pytest.mark.parametrize(
    "name",
    [
        "data",
        "balance",
        "baseline",
        "evaluate",
        "suspicious",
        "tta",
        "localize",
        "retrieve",
        "network",
        "register",
    ],
)
def test_report_names_the_report_that_lacks_something(copied, name):
    write_json(Path(f"reports/{name}.json"), {})
    with pytest.raises(PipelineError, match=rf"^reports/{name}\.json lacks \w+; delete it and run"):
        report.run(PARAMS)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("evaluate", {"base": {"test": 5}}, r"base\.test: expected an object, found a whole"),
        ("tta", {"chosen": []}, r"chosen: expected an object, found a list"),
        ("register", {"promoted": "yes"}, r"promoted: expected true or false, found text"),
        ("suspicious", {"listed": [None]}, r"listed\.0: expected an object, found null"),
    ],
)
def test_report_says_where_a_report_holds_something_else(copied, name, edit, message):
    path = Path(f"reports/{name}.json")
    write_json(path, read(path) | edit)
    with pytest.raises(PipelineError, match=rf"^reports/{name}\.json is damaged \({message}"):
        report.run(PARAMS)


def test_report_names_a_split_that_is_none():
    Path("data").mkdir()
    pq.write_table(
        pa.table({"label": ["a", "b"], "split": ["train", "tset"]}), "data/split.parquet"
    )
    message = r"^data/split\.parquet is damaged \(expected splits train, val and test, found tset\)"
    with pytest.raises(PipelineError, match=message):
        report.run(PARAMS)


def test_report_names_a_damaged_split():
    Path("data").mkdir()
    Path("data/split.parquet").write_text("junk")
    with pytest.raises(PipelineError, match=r"split\.parquet is damaged \(.*\); delete it and run"):
        report.run(PARAMS)


def test_report_needs_the_split():
    with pytest.raises(PipelineError, match=r"split\.parquet is missing; run dvc repro"):
        report.run(PARAMS)
