import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.data.packing.preprocess import preprocess
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.runtime.registry.aliases import promote
from pipeline.runtime.registry.versions import (
    DRAWING,
    REQUIREMENTS,
    cached_bundle,
    describe,
    fetch_bundle,
    find_bundle,
    find_version,
    register_bundle,
)
from pipeline.runtime.tracking.store import as_default, open_client
from pipeline.vision.bundle.description import Description, Views, rewrite_bundle
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.bundles import save_bundle
from tests.contract.imports import reachable, third_party
from tests.contract.test_declared_dependencies import INSTALLED_AS

POLICY = [{"HorizontalFlip": {"p": 0.5}}]


@pytest.fixture
def bundle(tmp_path):
    preprocessing = Preprocessing(28, 28, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, ("cat", "dog"), preprocessing, (0.3,), (0.3,))
    save_bundle(tmp_path / "bundle", description, description.build().state_dict())
    return tmp_path / "bundle"


def trained_run(tracking):
    client = open_client(tracking)
    return client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id


def register(bundle, tracking, name, run_id=None):
    return register_bundle(
        bundle,
        tracking=tracking,
        name=name,
        run_id=run_id or trained_run(tracking),
    )


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_bundle_becomes_one_version_however_often_it_is_registered(bundle, tracking):
    first = register(bundle, tracking, "once")
    assert find_version(tracking, "once", bundle_digest(bundle)).version == first.version
    again = register(bundle, tracking, "once")
    assert (again.version, again.run_id) == (first.version, first.run_id)
    assert first.version == "1"
    client = open_client(tracking)
    (version,) = client.search_model_versions("name = 'once'")
    assert version.tags["convoy.bundle"] == bundle_digest(bundle)


def test_a_model_keeps_the_description_that_a_person_wrote(bundle, tracking):
    version, client = register(bundle, tracking, "told"), open_client(tracking)
    describe(tracking, version, "first", "by default")
    assert client.get_registered_model("told").description == "by default"
    client.update_registered_model("told", "by hand")
    describe(tracking, version, "second", "by default")
    assert client.get_registered_model("told").description == "by hand"
    assert client.get_model_version("told", "1").description == "second"


def test_the_version_belongs_to_the_run_that_trained_it(bundle, tracking):
    """Which stays as it was: it has not taken until now."""
    client = open_client(tracking)
    run_id = trained_run(tracking)
    client.set_terminated(run_id, "KILLED", end_time=1234567)
    assert register(bundle, tracking, "trained", run_id=run_id).run_id == run_id
    (version,) = client.search_model_versions("name = 'trained'")
    assert version.run_id == run_id
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == ("KILLED", 1234567)
    assert bundle_digest(find_bundle(run_id, tracking)) == bundle_digest(bundle)


def test_what_is_fetched_is_what_was_registered(bundle, tracking):
    register(bundle, tracking, "fetched")
    assert promote(tracking, "fetched", "1", "champion", None) == ["champion"]
    for uri in ("models:/fetched@champion", "models:/fetched/1"):
        assert load_bundle(fetch_bundle(uri, tracking)).digest == bundle_digest(bundle)


def test_a_damaged_version_is_noticed(bundle, tracking, tmp_path):
    register(bundle, tracking, "damaged")
    digest = bundle_digest(bundle)
    assert bundle_digest(cached_bundle(tracking, "damaged", "1", digest, tmp_path)) == digest
    with pytest.raises(PipelineError, match=r"models:/damaged/1 .* is damaged"):
        cached_bundle(tracking, "damaged", "1", "0" * 64, tmp_path)
    assert not (tmp_path / ("0" * 64)).exists()


def test_a_served_model_requires_what_it_imports():
    imported = {
        n for m in reachable("pipeline.runtime.registry.pyfunc_model") for n in third_party(m)
    }
    installed = {INSTALLED_AS.get(name, name) for name in imported - set(sys.stdlib_module_names)}
    assert {*REQUIREMENTS, DRAWING} == installed


def test_the_served_model_answers_as_the_bundle_does(bundle, tracking, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd

    register(bundle, tracking, "served")
    with as_default(open_client(tracking)):
        served = mlflow.pyfunc.load_model("models:/served/1")
    loaded = load_bundle(bundle)
    images = [png(seed) for seed in range(300)]  # more than one batch
    prepared = np.stack([preprocess(image, loaded.preprocessing) for image in images])
    expected = probabilities(loaded, [prepared])
    answers = served.predict(pd.DataFrame({"image": images}))
    assert answers[["p_cat", "p_dog"]].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert list(answers["class"]) == [("cat", "dog")[i] for i in expected.argmax(1)]
    (tmp_path / "a.png").write_bytes(images[0])
    pixels, path = np.asarray(Image.open(tmp_path / "a.png")), {"path": [str(tmp_path / "a.png")]}
    with pytest.raises(mlflow.MlflowException, match="image 0: paths are not read here; send the"):
        served.predict(pd.DataFrame(path))
    monkeypatch.setenv("CONVOY_SERVED_FOLDER", str(tmp_path))
    for table in (path, {"pixels": [pixels]}):
        answer = served.predict(pd.DataFrame(table))
        assert answer[["p_cat", "p_dog"]].to_numpy() == pytest.approx(expected[:1], abs=1e-6)


def test_a_version_says_what_it_takes_and_needs(bundle, tracking):
    import mlflow

    register(bundle, tracking, "described")
    with as_default(open_client(tracking)):
        info = mlflow.models.get_model_info("models:/described/1")
        served = mlflow.pyfunc.load_model("models:/described/1")
    assert info.signature.inputs.input_names() == ["image", "path", "pixels"]
    assert info.signature.outputs.input_names() == ["class", "p_cat", "p_dog"]
    answer = served.predict(served.input_example)
    assert answer["p_cat"][0] + answer["p_dog"][0] == pytest.approx(1)
    folder = fetch_bundle("models:/described/1", tracking).parents[1]
    needed = (folder / "requirements.txt").read_text().split()
    assert len(needed) == len(REQUIREMENTS)
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in needed)


@pytest.mark.parametrize("item", [{"hflip": {}}, {"random": {"draw": 0, "policy": POLICY}}])
def test_only_a_version_with_random_views_needs_albumentations(bundle, tracking, tmp_path, item):
    rewrite_bundle(bundle, tmp_path / "final", Views((item,), "arithmetic", 0), 1.0)
    name = next(iter(item))
    register(tmp_path / "final", tracking, name)
    folder = fetch_bundle(f"models:/{name}/1", tracking).parents[1]
    needed = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert (DRAWING in needed) == ("random" in item)
    assert set(REQUIREMENTS) <= set(needed)


def test_no_pickle_is_registered(bundle, tracking):
    register(bundle, tracking, "clean")
    folder = fetch_bundle("models:/clean/1", tracking).parents[1]
    assert not [
        path for path in folder.rglob("*") if re.search(r"\.(pkl|pickle|pt|pth)$", path.name)
    ]


@pytest.mark.parametrize("uri", ["models:/nobody@champion", "models:/fetch@champion"])
def test_a_model_that_is_not_there(bundle, tracking, uri):
    register(bundle, tracking, "fetched")
    with pytest.raises(PipelineError, match=r"no model .* in the registry.*registered models:"):
        fetch_bundle(uri, tracking)
