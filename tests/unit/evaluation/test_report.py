import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.calibration import calibrate
from pipeline.evaluation.confusions import confusions
from pipeline.evaluation.ladder import climb
from pipeline.evaluation.measure import compare, measure
from pipeline.evaluation.metrics import answers
from pipeline.evaluation.report import Page, count_split, find_pictures, picture_uri, render
from pipeline.evaluation.summary import format_figure, summary_table
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0, bootstrap_resamples=100, calibration_bins=5, top_k=(2,), suspicious_images=20
)
CLASSES = ("<b>ant</b>", "bee & co")
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def reports():
    labels = np.arange(20) % 2
    probabilities = np.eye(2)[np.where(np.arange(20) < 3, 1 - labels, labels)] * 0.8 + 0.1
    block = measure(labels, probabilities, CLASSES, HOW)
    rungs = climb(labels, probabilities, [probabilities], CLASSES, HOW)
    calibration, _ = calibrate((labels, probabilities), (labels, probabilities), CLASSES, HOW)
    model = {"test": block, "calibration": calibration}
    evaluate = {name: dict(model) for name in ("baseline", "base", "tuned")}
    evaluate["tuned"]["confusions"] = confusions(answers(labels, probabilities), CLASSES)
    evaluate["comparisons"] = {
        "tuned_minus_base": compare(labels, probabilities, probabilities[:, ::-1], HOW)
    }
    cost = {"views_per_image": 1, "images_per_s": 1234.5}
    tta = {"test": block, "rungs": [{"views": ["identity"], **rungs[0], "cost": cost}]}
    return {"evaluate": evaluate, "tta": tta}


@pytest.fixture
def page(reports, tmp_path):
    Image.new("RGB", (20, 10), "white").save(tmp_path / "map.png")
    return Page(
        title="Ants & bees",
        data={
            "files": 61,
            "usable": 60,
            "problems": {"truncated": 1},
            "left_out": [{"path": EVIL, "problem": "truncated: 3 bytes are missing"}],
            "near_duplicates": {"clusters": 2, "images": 5},
        },
        balance={"synthetic_images": 7, "classes": {CLASSES[1]: {"copies": 7}}},
        baseline={
            "classifier": "random_forest",
            "features": 108,
            "most_important": [{"feature": "covered area", "importance": 0.5}],
        },
        suspicious={
            "images": {"val": 10, "test": 20},
            "suspicious": 1,
            "share_of_wrong_labels": 0.042,
            "listed": [
                {
                    "path": EVIL,
                    "split": "val",
                    "given": CLASSES[0],
                    "suggested": CLASSES[1],
                    "probability": 0.9,
                    "score": 0.8,
                }
            ],
        },
        retrieve={
            "test": {"recall_at_5": {"value": 0.9, "ci95": [0.8, 0.95]}},
            "queries": 20,
            "searched": 30,
            "dimensions": 84,
        },
        register={
            "model": "ants",
            "version": "3",
            "aliases": ["champion"],
            "promoted": True,
            "reasons": ["macro-F1 is 0.01 above the baseline's"],
        },
        split=count_split([CLASSES[0], CLASSES[1], CLASSES[0]], ["train", "test", "train"]),
        pictures={"embed/map": tmp_path / "map.png"},
        **reports,
    )


class Checker(HTMLParser):
    """Collect tags and every address that the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_loads_nothing(page):
    checker = parse(render(page))
    assert "script" not in checker.tags
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert checker.tags.count("img") == 1


def test_names_and_paths_are_text(page):
    html = render(page)
    assert EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>ant</b>" not in html
    assert "bee &amp; co" in html


def test_the_verdict_comes_first(page):
    html = render(page)
    assert re.search(r"<em>Ship it\.</em> ants, version 3, is champion\.", html)
    assert "macro-F1 is 0.01 above the baseline&#39;s" in html
    assert html.index("Ship it.") < html.index("The models") < html.index("Latent space</h2>")


def test_a_refused_model_has_no_version(page):
    refused = {"model": "ants", "promoted": False, "reasons": ["too weak"]}
    html = render(Page(**{**vars(page), "register": refused}))
    assert "<em>Not yet.</em> The tuned model was not registered as ants." in html
    assert "too weak" in html


def test_sections_hold_the_reports(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render(page)))
    assert "61 files, 60 usable images in 2 classes; 1 left out: 1 truncated." in text
    assert "5 images form 2 groups of near duplicates. 7 synthetic images" in text
    assert "truncated: 3 bytes are missing" in text
    assert "tuned \N{MINUS SIGN} base" in text
    assert "1,23" in text
    assert "Of 30 validation and test images, 1 confidently belongs to another class" in text
    assert "share of wrong labels is 4.2" in text
    assert "as trained" in text
    assert "Recall@5 0.900 [0.800, 0.950]" in text
    assert "Random forest on 108 hand-crafted features" in text


def test_a_long_list_of_bad_files_is_cut(page):
    rows = [{"path": f"{i}.png", "problem": "empty"} for i in range(150)]
    html = render(Page(**{**vars(page), "data": {**page.data, "left_out": rows}}))
    assert "<td>99.png</td>" in html
    assert "<td>100.png</td>" not in html
    assert "The first 100 of 150; all stand in reports/data.json." in html


def test_large_pictures_become_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise // 8 * 8).save(tmp_path / "a.png")
    uri = picture_uri(tmp_path / "a.png")
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < (tmp_path / "a.png").stat().st_size


def test_pictures_are_found_by_stage(tmp_path):
    for name in ("embed/map.png", "balance/sheet.png", "balance/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(find_pictures(tmp_path)) == ["balance/sheet", "embed/map"]


def test_figures_as_text():
    figure = {"value": 0.9744, "ci95": [0.9226, 0.9962]}
    assert format_figure(figure) == "0.974 [0.923, 0.996]"
    gain = {"value": -0.01, "ci95": [-0.02, 0.001]}
    assert format_figure(gain, sign=True) == "-0.010 [-0.020, +0.001]"
    assert format_figure({"value": None, "ci95": [0.0, 1.0]}) == "n/a [0.000, 1.000]"


def test_summary_table(reports):
    lines = summary_table(reports["evaluate"], reports["tta"]).splitlines()
    assert re.split(r"  +", lines[0])[1:] == ["accuracy", "balanced accuracy", "macro-F1"]
    assert [re.split(r"  +", line)[0] for line in lines[1:]] == [
        "baseline",
        "base",
        "tuned",
        "tuned with TTA",
    ]
    assert re.split(r"  +", lines[3])[1] == "0.850 [0.640, 0.948]"
