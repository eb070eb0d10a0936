"""tta on small packed sets: what it measures, what it chooses, and the model that it writes."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import gmean

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.measure import measure
from pipeline.evaluation.metrics.posteriors import mean_posteriors, temper
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.metrics.temperature import Temperature, fit_temperature
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.schema import Figure, TtaReport
from pipeline.params import Tta, load_params, parse
from pipeline.params.choices.views import Identity, Rotate, Shift, ViewItem
from pipeline.stages import tta
from pipeline.vision.bundle.description import read_description
from pipeline.vision.bundle.digest import weights_digest
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities, view_posteriors
from pipeline.vision.inference.views import build_views, expand
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.packed import BARS, bars, write_set

PARAMS = load_params(ROOT / "params.yaml")
PARAMS = PARAMS.model_copy(
    update={"evaluate": PARAMS.evaluate.model_copy(update={"bootstrap_resamples": 200})}
)
REPORT = Path("reports/tta.json")
FINAL = Path("models/final")
IDENTITY, TURN, SHIFT = {"identity": {}}, {"rotate": {"degrees": 90}}, {"shift": {"x": 0.1, "y": 0}}
RANDOM = {"random": {"draws": 2, "policy": [{"HorizontalFlip": {"p": 0.5}}]}}


@pytest.fixture
def sets():
    """A network that knows bars turned by 90 degrees, and images that are not turned."""
    packed = {
        name: write_set(Path("data/packed") / name, *bars(count, seed=seed), BARS)
        for name, count, seed in (("val", 60, 1), ("test", 45, 2))
    }
    images, labels = bars(120, seed=3)
    turned = np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    for name in ("base", "tuned"):  # a tie, which the tuned one wins
        fit_bundle(Path("models") / name, write_set(Path("turned"), turned, labels, BARS))
    return packed


def searched(*views, choose="auto", mean="arithmetic", calibrate="natural", recipe="custom"):
    """Run the stage and return its report."""
    given = {"seed": 5, "mean": mean, "choose": choose, "calibrate": calibrate, "views": views}
    made = PARAMS.recipe.model_copy(update={"name": recipe})
    tta.run(PARAMS.model_copy(update={"tta": Tta.model_validate(given), "recipe": made}))
    return read_report(REPORT, TtaReport)


def seen(images, views, folder="models/tuned"):
    """Return what the network says in each view."""
    functions = build_views(expand(parse(tuple[ViewItem, ...], list(views))), 5, images.info.shape)
    bundle = load_bundle(Path(folder))
    return [view_posteriors(bundle, images.batches(256), function) for function in functions]


def measured(images, posteriors):
    return measure(Scored.of(images.labels, posteriors, PARAMS.evaluate), BARS)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_each_step_on_validation_and_test(sets, mean):
    found = searched(IDENTITY, SHIFT, TURN, choose=3, mean=mean)
    names = ["identity", "shift 0.1, 0", "rotate 90"]
    assert len(found.steps) == 3
    by_view = {split: seen(sets[split], [IDENTITY, SHIFT, TURN]) for split in ("val", "test")}
    for count, step in enumerate(found.steps, 1):
        assert step.views == tuple(names[:count])
        assert step.cost.views_per_image == count
        assert step.cost.images_per_s > 0
        averaged = {}
        for split, views in by_view.items():
            # Computed directly, from all views at once.
            stacked = np.stack(views[:count])
            if mean == "arithmetic":
                averaged[split] = stacked.mean(axis=0)
            else:
                averaged[split] = gmean(stacked, axis=0)
                averaged[split] /= averaged[split].sum(axis=1, keepdims=True)
        for name, figure in step.test.figures.items():
            expected = measured(sets["test"], averaged["test"])[name]
            assert figure.value == pytest.approx(expected["value"], abs=1e-9)
            assert figure.ci95 == pytest.approx(expected["ci95"], abs=1e-9)
        for split, gain in (("val", step.validation.gain), ("test", step.gain)):
            plain = measured(sets[split], by_view[split][0])
            for name, figure in gain.figures.items():
                expected = measured(sets[split], averaged[split])[name]["value"]
                expected -= plain[name]["value"]
                assert figure.value == pytest.approx(expected, abs=1e-9)
    first = found.steps[0]
    for gain in (first.gain, first.validation.gain):
        assert gain.macro_f1 == gain.figures["nll"] == Figure(value=0.0, ci95=(0.0, 0.0))
    speeds = [step.cost.images_per_s for step in found.steps]
    assert speeds == sorted(speeds, reverse=True)
    assert Path("reports/pictures/tta/views.png").stat().st_size > 0


def test_views_that_cannot_pay_are_not_tried(sets, capsys):
    fit_bundle(Path("models/tuned"), sets["val"])  # makes no mistake on validation images
    found = searched(IDENTITY, SHIFT, TURN)
    assert [step.views[-1] for step in found.steps] == ["identity", "shift 0.1, 0"]
    assert found.chosen.untried == ("rotate 90",)
    assert found.chosen.why_untried.startswith("2 views gain ")
    said = capsys.readouterr().out
    assert f"\ntta: not tried: rotate 90: {found.chosen.why_untried}\n" in said


def test_the_memory_does_not_grow_with_the_views():
    """tracemalloc counts NumPy's arrays: those of images x classes, of which each has 3.2 MB."""
    classes = tuple(f"class {number:02d}" for number in range(100))
    images = np.random.default_rng(0).integers(0, 256, (4000, 8, 8, 1)).astype(np.uint8)
    for name in ("val", "test"):
        labels = (np.arange(4000) % 100).tolist()
        written = write_set(Path("data/packed") / name, images, labels, classes)
    for name in ("base", "tuned"):
        fit_bundle(Path("models") / name, written)

    def arrays(choose):
        tracemalloc.start()
        searched(IDENTITY, {"hflip": {}}, {"vflip": {}}, *[SHIFT, TURN] * 2, choose=choose)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / (4000 * 100 * 8)

    assert arrays(7) < arrays(2) + 0.5


def test_the_fewest_views_with_a_real_gain_become_the_final_model(sets, capsys):
    found = searched(TURN, IDENTITY)
    assert found.chosen.count == 1
    assert found.chosen.views == ("rotate 90",)
    assert found.chosen.reason.startswith("the first of 2 steps whose gain in macro-F1 on 60")
    views = read_description(FINAL).views
    assert (views.items, views.mean, views.seed) == ((Rotate(degrees=90),), "arithmetic", 5)
    assert weights_digest(FINAL) == weights_digest(Path("models/tuned"))
    (on_validation,), (on_test,) = (seen(sets[split], [TURN]) for split in ("val", "test"))
    temperature = fit_temperature(sets["val"].labels, on_validation)
    assert found.temperature.value == temperature.value
    assert found.temperature.ci95 == (temperature.low, temperature.high)
    answered = probabilities(load_bundle(FINAL), sets["test"].batches(256))
    np.testing.assert_allclose(answered, temper(on_test, temperature.value))
    network, said = capsys.readouterr().out.split("\n", 1)
    assert network == f"tta: tuned: {found.network.reason}"
    assert said.startswith(
        "tta: not tried: identity: the fewest views with a gain are taken\n"
        "tta: rotate 90: the first of 2 steps"
    )
    assert said.endswith("-> models/final\n")


def test_the_network_that_is_better_on_validation_ships(sets, capsys):
    """Fine-tuning made the model worse: the final one has the weights of the first training."""
    fit_bundle(Path("models/base"), sets["val"])
    found = searched(IDENTITY)
    assert found.network.name == "base"
    assert (found.metric.name, found.network.base) == ("macro_f1", 1.0)
    assert found.network.tuned < 0.7
    assert found.network.difference.ci95[1] < 0
    assert weights_digest(FINAL) == weights_digest(Path("models/base"))
    assert capsys.readouterr().out.startswith(f"tta: base: {found.network.reason}\n")
    # Views are those of the network that ships.
    expected = measure(
        Scored.of(
            sets["test"].labels, seen(sets["test"], [IDENTITY], "models/base")[0], PARAMS.evaluate
        ),
        BARS,
    )
    assert found.steps[0].test.macro_f1.value == pytest.approx(expected["macro_f1"]["value"])


@pytest.mark.parametrize(
    ("recipe", "weights", "ships"),
    [
        ("custom", "random", "tuned"),
        ("long_tail", "random", "base"),
        ("transfer", "IMAGENET1K_V1", "tuned"),
        ("auto", "random", "base"),
        ("auto", "IMAGENET1K_V1", "tuned"),
    ],
)
def test_of_two_equal_networks_the_one_that_the_recipe_favours_ships(sets, recipe, weights, ships):
    base = load_bundle(Path("models/base"))
    described = replace(base.description, origin={"weights": weights})
    save_bundle(base.folder, described, base.network.state_dict())
    assert searched(IDENTITY, recipe=recipe).network.name == ships


@pytest.mark.parametrize(
    ("given", "count", "views"), [([IDENTITY, SHIFT], 1, ("identity",)), ([SHIFT], 0, ())]
)
def test_without_a_gain_the_final_model_sees_the_image_as_it_is(sets, capsys, given, count, views):
    fit_bundle(Path("models/tuned"), sets["val"])  # makes no mistake on validation images
    found = searched(*given)
    assert (found.chosen.count, found.chosen.views) == (count, views)
    assert "none has a gain in macro-F1 on 60 validation images" in found.chosen.reason
    assert read_description(FINAL).views is None
    assert "tta: the image as it is: of " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("choose", "views"),
    [
        (1, None),
        (2, (Identity(), Shift(x=0.1, y=0))),
        (3, (Identity(), Shift(x=0.1, y=0), Rotate(degrees=90))),
    ],
)
def test_as_many_views_as_asked_for(sets, choose, views):
    found = searched(IDENTITY, SHIFT, TURN, choose=choose, calibrate="off")
    assert found.chosen.count == len(found.chosen.views) == found.choose == choose
    assert found.chosen.reason == f"tta.choose asks for {choose}"
    described = read_description(FINAL)
    assert (described.views and described.views.items) == views
    assert (found.calibration.prior, found.calibration.ships) == ("off", False)
    assert found.calibration.reason == "tta.calibrate is off"
    assert found.temperature == Figure(value=1.0, ci95=(1.0, 1.0))
    assert described.temperature == 1.0


@pytest.mark.parametrize("prior", ["natural", "balanced"])
def test_the_temperature_is_that_of_the_prior(sets, prior):
    """The model, which is not sure enough, meets few bars of the second kind on validation."""
    images, labels = bars(120, seed=1)
    labels = np.asarray(labels)
    rows = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in enumerate((40, 5, 20))])
    val = write_set(Path("data/packed/val"), images[rows], labels[rows], BARS)
    for name in ("base", "tuned"):
        fit_bundle(Path("models") / name, sets["test"], sharpness=3.0, wrong=1.4)
    found = searched(IDENTITY, calibrate=prior)
    expected = fit_temperature(val.labels, seen(val, [IDENTITY])[0], prior)
    assert found.temperature.value == read_description(FINAL).temperature == expected.value
    assert (found.calibration.prior, found.calibration.ships) == (prior, True)
    assert found.calibration.change == expected.change < 0


def test_a_temperature_that_validation_shows_to_hurt_does_not_ship(sets, capsys, monkeypatch):
    hurts = Temperature(2.5, 1.0, 6.0, change=0.01)
    monkeypatch.setattr(tta, "fit_temperature", lambda *_: hurts)
    found = searched(IDENTITY)
    assert found.temperature == Figure(value=1.0, ci95=(1.0, 1.0))
    assert read_description(FINAL).temperature == 1.0
    assert (found.calibration.ships, found.calibration.change) == (False, 0.01)
    assert "2.50, fitted on 60 validation images, is expected not to" in capsys.readouterr().out


def test_random_views_and_a_geometric_mean(sets):
    found = searched(IDENTITY, RANDOM, choose=3, mean="geometric")
    assert found.chosen.views == ("identity", "random 1", "random 2")
    assert (found.mean, found.seed) == ("geometric", 5)
    mean = mean_posteriors(seen(sets["test"], [IDENTITY, RANDOM]), "geometric")
    answered = probabilities(load_bundle(FINAL), sets["test"].batches(7))
    np.testing.assert_allclose(answered, temper(mean, found.temperature.value), rtol=1e-4)


@pytest.mark.parametrize("labels", [[0, 1, 2], [1], [0, 0, 0, 2]])
def test_tiny_validation_sets_choose_nothing(sets, labels):
    images = bars(120, seed=1)[0]
    rows = [label + 3 * place for place, label in enumerate(labels)]
    write_set(Path("data/packed/val"), images[rows], labels, BARS)
    found = searched(IDENTITY, SHIFT, TURN)
    assert found.chosen.views == ("identity",)
    assert 0 < found.temperature.value <= 50


def test_no_validation_images(sets):
    write_set(Path("data/packed/val"), bars(3)[0][:0], [], BARS)
    with pytest.raises(PipelineError, match=r"^expected validation images .* raise split\.val or"):
        searched(IDENTITY)


def test_a_second_run_differs_in_seconds_alone(sets):
    def left():
        report = searched(IDENTITY, SHIFT, RANDOM, TURN).model_dump()
        for step in report["steps"]:
            del step["cost"]["images_per_s"]
        files = [*FINAL.iterdir(), Path("reports/pictures/tta/views.png")]
        return report, {path: path.read_bytes() for path in files}

    assert left() == left()


def test_the_final_model_stays_where_the_tuned_one_is_damaged(sets):
    searched(IDENTITY)
    before = (FINAL / "bundle.json").read_bytes()
    Path("models/tuned/bundle.json").write_text("{")
    with pytest.raises(PipelineError, match=r"models/tuned/bundle\.json is damaged"):
        searched(IDENTITY)
    assert (FINAL / "bundle.json").read_bytes() == before
    assert ImageSet.open(Path("data/packed/test")).info.classes == BARS
