import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.evaluation.metrics.scores import answers, macro_f1
from pipeline.files import read_json
from pipeline.params import load_params
from pipeline.runtime.registry.versions import register_bundle
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.packed import BARS, bars, write_set


@pytest.fixture
def images(monkeypatch):
    """Packed test images, and the bundles good and poor."""
    monkeypatch.setattr("pipeline.vision.application.paired_evaluation._TIMED_S", 0.0)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    images = write_set(Path("data/packed/test"), *bars(60), BARS)
    fit_bundle(Path("good"), images)
    fit_bundle(Path("poor"), images, wrong=2.0)
    return images


def says(name, images):
    posteriors = probabilities(load_bundle(Path(name)), images.batches(60))
    return answers(images.labels, posteriors)


def test_two_bundles_side_by_side(images, capsys):
    assert run(["compare", "poor", "good", "--output", "out/a.json", "--sheet", "out/a.png"]) == 0
    out = capsys.readouterr().out
    poor, good = says("poor", images), says("good", images)
    f1 = [float(macro_f1(x.hits, x.support, x.predictions)) for x in (poor, good)]
    (line,) = (line for line in out.splitlines() if line.startswith("macro f1"))
    assert [float(word) for word in line.split("[")[0].split()[2:]] == pytest.approx(
        [f1[0], f1[1], f1[1] - f1[0]], abs=6e-5
    )
    mended = np.flatnonzero(good.right & ~poor.right)
    broken = np.flatnonzero(poor.right & ~good.right)
    assert len(mended) > 5
    assert f"right in A, wrong in B: {len(broken)}" in out
    assert f"wrong in A, right in B: {len(mended)}" in out
    assert f"only A is right on {len(broken)}, only B on {len(mended)}" in out
    written = read_json(Path("out/a.json"))
    assert written["a"]["bundle"] == bundle_digest(Path("poor"))
    assert {one["path"] for one in written["wrong_to_right"]} == {
        images.paths[row] for row in mended
    }
    assert written["right_to_wrong"] == []
    sure = [one["first_probability"] for one in written["wrong_to_right"]]
    assert sure == sorted(sure, reverse=True)
    assert Image.open("out/a.png").size[0] > 500


def test_a_model_and_itself(images, capsys):
    assert run(["compare", "good", "good", "--sheet", "a.png"]) == 0
    out = capsys.readouterr().out
    assert "0.0000  [0.0000, 0.0000]" in out
    assert "McNemar p = 1" in out
    assert Path("a.png").exists()


def test_registered_models_and_runs(images, capsys):
    tracking = load_params().tracking
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    registered = register_bundle(
        Path("good"),
        tracking=tracking,
        name="m",
        run_id=client.create_run(experiment.experiment_id).info.run_id,
    )
    assert run(["compare", "models:/m/1", registered.run_id, "--output", "a.json"]) == 0
    written = read_json(Path("a.json"))
    assert written["a"]["bundle"] == written["b"]["bundle"] == bundle_digest(Path("good"))
    assert written["b"]["model"] == registered.run_id
    capsys.readouterr()
    for unknown, said in (
        ("f" * 32, "is not there, or its files are not"),
        ("models:/m/7", "no model"),
    ):
        assert run(["compare", "good", unknown]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["good", "nowhere"], "nowhere is not a model bundle"),
        (["good", "data"], "data is not a model bundle"),
        (["good"], "Missing argument 'B'"),
        (["good", "poor", "--images", "data"], "no packed images in data"),
        (["good", "poor", "--output", "a.csv"], "--output a.csv: expected the name of a file that"),
        (["good", "poor", "--sheet", "a.jpg"], "ends in .png"),
    ],
)
def test_mistakes_are_one_line(images, capsys, arguments, said):
    assert run(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


def test_models_of_other_things_are_not_compared(images, capsys):
    good = load_bundle(Path("good"))
    other = replace(good.description, classes=("cat", "dog", "cow"))
    save_bundle(Path("pets"), other, good.network.state_dict())
    assert run(["compare", "good", "pets"]) == 2
    assert "pets knows none of the classes of data/packed/test" in capsys.readouterr().err
