from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.sources.open import open_source
from pipeline.data.tables import SPLIT
from pipeline.errors import PipelineError
from pipeline.runtime.retraining import survey
from pipeline.runtime.retraining.judgement import judge_new, reference_rows
from pipeline.runtime.retraining.records import KNOWN
from pipeline.runtime.retraining.sight import Sight, some_by_content
from pipeline.runtime.retraining.survey import survey_images
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import embeddings, probabilities
from tests.bundles import save_bundle
from tests.images import params_with
from tests.packed import bars

CLASSES = ("upright", "lying", "none")
PREPARING = Preprocessing(16, 16, 1, "stretch", 0, 8)
NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
CACHE = Path(".convoy/index")


@pytest.fixture
def params():
    return params_with(data={"root": "images"})


def write(count, seed=0, brighter=0):
    for row, (image, label) in enumerate(zip(*bars(count, seed=seed), strict=True)):
        path = Path("images") / CLASSES[label] / f"{seed}-{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = np.clip(image[..., 0].astype(int) + brighter, 0, 255)
        Image.fromarray(levels.astype(np.uint8)).save(path)


@pytest.fixture
def bundle():
    torch.manual_seed(0)
    description = Description("lenet5", {}, CLASSES, PREPARING, (0.2,), (0.3,))
    save_bundle(Path("bundle"), description, description.build().state_dict())
    return Path("bundle")


@pytest.fixture
def sight(bundle):
    return Sight(bundle, open_source("images"), Path("seen"))


def listed(images):
    return list(zip(*(images.index[name].to_pylist() for name in ("path", "sha256")), strict=True))


def test_a_model_sees_what_prediction_sees_and_remembers_it(params, bundle, sight):
    write(9)
    images = listed(survey_images(params, KNOWN.empty_table(), CACHE))
    seen = sight.see(images, "known")
    pixels = np.stack([preprocess_file(Path("images") / path, PREPARING) for path, _ in images])
    loaded = load_bundle(bundle)
    assert np.allclose(seen.vectors, embeddings(loaded, [pixels]), atol=1e-6)
    assert np.allclose(seen.posteriors, probabilities(loaded, [pixels]))
    for path, _ in images:  # nothing is read again
        (Path("images") / path).unlink()
    again = Sight(bundle, open_source("images"), Path("seen")).see(images[::-1], "known")
    assert (again.vectors == seen.vectors[::-1]).all()
    assert (again.posteriors == seen.posteriors[::-1]).all()


def test_what_is_remembered_may_be_damaged(params, sight):
    write(6)
    images = listed(survey_images(params, KNOWN.empty_table(), CACHE))
    seen = sight.see(images, "known")
    (file,) = Path("seen").iterdir()
    file.write_bytes(b"x")
    assert (sight.see(images, "known").vectors == seen.vectors).all()


def test_a_file_that_changes_meanwhile_is_named(params, sight):
    write(3)
    images = listed(survey_images(params, KNOWN.empty_table(), CACHE))
    write(3, brighter=9)
    with pytest.raises(PipelineError, match="changed since it was indexed"):
        sight.see(images, "known")


def test_no_images_are_nothing_to_see(sight):
    seen = sight.see([], "known")
    assert seen.posteriors.shape == (0, 3)


def test_images_are_chosen_by_content_so_that_growth_changes_few():
    names = [f"{i}" for i in range(100)]
    chosen = {names[i] for i in some_by_content(names, 50)}
    more = [*names, "new"]
    assert len(chosen) == 50
    assert len(chosen - {more[i] for i in some_by_content(more, 50)}) <= 1
    assert some_by_content(names, 200) == list(range(100))


def test_growth_is_seen_and_then_known(params):
    write(9)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    assert (first.changes.new, first.changes.known) == (9, 0)
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    write(6, seed=1)
    second = survey_images(params, known, CACHE)
    assert (second.changes.new, second.changes.known, len(second.new)) == (6, 9, 6)
    later = NOW + timedelta(days=7)
    after = second.known_from_now_on(known, later)
    assert after.schema == KNOWN
    assert sorted(after["arrived"].to_pylist()) == [NOW] * 9 + [later] * 6
    assert survey_images(params, after, CACHE).changes.altered == 0


def test_images_that_come_during_a_call_are_counted_and_stay_new(params):
    write(9)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    assert first.came_later(first.index) == 0
    write(6, seed=1)
    later = survey_images(params, KNOWN.empty_table(), CACHE)
    assert first.came_later(later.index) == 6
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    assert survey_images(params, known, CACHE).changes.new == 6


def test_where_nothing_is_new_no_pictures_are_compared(params, monkeypatch):
    write(9)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    monkeypatch.setattr(survey, "index_measured", None)
    (Path("images") / "none" / "0-002.png").unlink()
    assert survey_images(params, known, CACHE).changes.vanished == 1
    write(3, seed=1)
    with pytest.raises(TypeError):
        survey_images(params, known, CACHE)


def write_split(images, splits):
    rows = images.index.select([name for name in SPLIT.names if name != "split"]).to_pylist()
    rows = [row | {"split": split} for row, split in zip(rows, splits, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, SPLIT), "split.parquet")


def test_the_reference_is_what_the_champion_did_not_learn_from(params):
    write(6)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    write_split(first, ["train", "val", "test", "train", "test", "train"])
    assert reference_rows(first, Path("split.parquet"), known, None) == [1, 2, 4]
    assert reference_rows(first, Path("split.parquet"), known, NOW + timedelta(1)) == []
    assert reference_rows(first, Path("split.parquet"), known.slice(0, 3), None) == [1, 2]
    assert reference_rows(first, Path("gone.parquet"), known, None) == []


def test_new_images_of_another_camera_drift_and_others_do_not(params, sight):
    write(120)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    found = {}
    for seed, brighter in ((1, 0), (2, 60)):
        write(30, seed=seed, brighter=brighter)
        images = survey_images(params, known, CACHE)
        paths = images.index["path"].to_pylist()
        reference = [row for row, path in enumerate(paths) if "/0-" in path]
        drift, noise = judge_new(images, reference, sight, params, None)
        found[brighter] = drift
        assert (drift.new, drift.reference) == (30, 120)
        assert noise is not None
        assert noise.new == 30
        known = images.known_from_now_on(known, NOW)
    assert not found[0].drifted
    assert found[60].drifted
    strangest = found[60].strangest
    assert [one.strangeness for one in strangest] == sorted(
        (one.strangeness for one in strangest), reverse=True
    )
    assert all(one.path.startswith(("upright/2-", "lying/2-", "none/2-")) for one in strangest)


def test_labels_that_the_champion_does_not_know_are_not_judged(params, sight):
    write(60)
    first = survey_images(params, KNOWN.empty_table(), CACHE)
    known = first.known_from_now_on(KNOWN.empty_table(), NOW)
    write(15, seed=1)
    Path("images/other").mkdir()
    for file in sorted(Path("images").glob("*/1-*.png")):
        file.rename(Path("images/other") / file.name)
    images = survey_images(params, known, CACHE)
    assert images.changes.new_classes == ("other",)
    drift, noise = judge_new(images, list(range(10)), sight, params, None)
    assert drift.new == 15
    assert noise is None
