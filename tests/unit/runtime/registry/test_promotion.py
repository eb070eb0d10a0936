import re
from pathlib import Path

import pytest

from pipeline.data.sources.folder import FolderSource
from pipeline.errors import PipelineError
from pipeline.evaluation.judging.gate import AgainstBaseline
from pipeline.evaluation.registration.outcome import Outcome
from pipeline.evaluation.reports.files import read_report, write_report
from pipeline.params import load_params
from pipeline.runtime.registry import promotion
from pipeline.runtime.registry.aliases import (
    ROLLED_BACK_TAG,
    find_best,
    find_champion,
    promote,
    roll_back,
)
from pipeline.runtime.registry.promotion import Candidate, Registry, register_and_judge
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import Description
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.inference.bundle import load_bundle
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.judged import judged
from tests.packed import BARS, bars, write_set
from tests.reports import evaluate_report

# What each bundle and the baseline reach by macro-F1, as reports/evaluate.json has it.
BEATS_IT = AgainstBaseline(0.9, 0.5, {"value": 0.4, "ci95": [0.3, 0.5]})
LOSES_TO_IT = AgainstBaseline(0.4, 0.5, {"value": -0.1, "ci95": [-0.2, 0.0]})


@pytest.fixture(scope="module")
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Test images as packed/, and bundles: good (always right), poor, blind and timid.

    Slightly and somewhat lose a few images, the second one more of them.
    """
    folder = tmp_path_factory.mktemp("models")
    images = write_set(folder / "packed", *bars(120), BARS)
    fit_bundle(folder / "good", images)
    fit_bundle(folder / "other", images, seed=1)
    fit_bundle(folder / "poor", images, wrong=2.0)
    fit_bundle(folder / "slightly", images, wrong=1.3)
    fit_bundle(folder / "somewhat", images, wrong=1.35)
    fit_bundle(folder / "blind", images, blind_to=2)
    fit_bundle(folder / "timid", images, sharpness=2.0)
    return folder


@pytest.fixture
def register(tracking, params, folder, request, monkeypatch):
    """Register a bundle by name, as a version of a model of the test's own."""
    monkeypatch.setattr("pipeline.vision.application.paired_evaluation._TIMED_S", 0.0)
    model = re.sub(r"\W+", "_", request.node.name)
    how = params.evaluate.model_copy(update={"bootstrap_resamples": 200})

    def register_one(name, over_baseline=BEATS_IT, images="packed", **rules):
        given = params.register_.model_copy(update={"name": model, **rules})
        images = folder / images
        result = judged(params, tracking, folder / name, images, {"test/accuracy": 0.5}, {})
        candidate = Candidate(
            folder / name,
            over_baseline,
            evaluate_report(BARS, 9).final.test,
            images,
            FolderSource(Path("in")),
            result,
        )
        return register_and_judge(candidate, Registry(tracking, given, Path("cache")), how)

    return register_one


def failed(result):
    return [check.name for check in result.checks if not check.passed]


def aliases(tracking, name):
    found = open_client(tracking).get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_first_second_and_third(register, tracking):
    """The first needs to beat the baseline only; then the better wins, and the worse waits."""
    first = register("poor")
    assert (first.decision, first.aliases, first.champion) == (
        "promoted",
        ("champion",),
        None,
    )
    second = register("good")
    assert (second.decision, second.version) == ("promoted", "2")
    names = [check.name for check in second.checks]
    expected = ["baseline", "loss", "class_recall", "pooled_recall", "calibration", "latency"]
    assert names == expected
    assert second.champion.version == "1"
    assert second.comparison.macro_f1.value > 0.1
    assert second.latency.ratio == pytest.approx(1, abs=0.9)
    third = register("blind")
    assert (third.decision, third.promoted) == ("refused", False)
    assert third.aliases == ("challenger",)
    assert failed(third) == ["loss", "class_recall", "pooled_recall", "calibration"]
    none = third.classes["none"]
    assert (none.support, none.candidate, none.champion) == (40, 0.0, 1.0)
    held = {"champion": "2", "previous": "1", "challenger": "3"}
    assert aliases(tracking, "test_first_second_and_third") == held
    name, client = "test_first_second_and_third", open_client(tracking)
    told = client.get_model_version(name, "3").description
    assert told.startswith("Classifies images of **digits**.\n\n- 3 classes, in the order of the")
    assert f"convoy predict pictures/ --model models:/{name}/3 --output" in told
    assert f"models:/{name}@champion" in client.get_registered_model(name).description
    assert "\n\n**Not promoted** to `champion`.\n" in told
    assert (
        "- failed: recall falls by more than register.max_class_recall_loss, 0.05: class none 1.000"
        in told
    )
    assert "| macro_f1 | 1.0000 |" in told
    again = register("good")
    assert (again.decision, again.promoted) == ("unchanged", True)
    # Its version still tells why it was promoted.
    told = client.get_model_version(name, "2").description
    assert "\n\n**Promoted** to `champion`.\n" in told
    assert aliases(tracking, name) == held


def test_a_model_that_loses_to_the_baseline_stays_the_challenger(register):
    result = register("good", LOSES_TO_IT)
    assert failed(result) == ["baseline"]
    assert (result.version, result.aliases) == ("1", ("challenger",))


def test_a_challenger_that_passes_later_is_no_challenger_any_more(register, tracking):
    assert register("good", min_gain_over_baseline=0.45).aliases == ("challenger",)
    assert register("good").aliases == ("champion",)
    name = "test_a_challenger_that_passes_later_is_no_challenger_any_more"
    assert aliases(tracking, name) == {"champion": "1"}


@pytest.mark.parametrize(
    ("name", "rules", "reasons"),
    [
        ("timid", {}, ["loss", "calibration"]),  # the same answers, and a worse Brier score
        ("other", {"max_latency_ratio": 0.01}, ["latency"]),
        ("other", {}, []),
    ],
)
def test_calibration_and_latency(register, tracking, folder, params, name, rules, reasons):
    register("good")
    assert failed(register(name, **rules)) == reasons


LAX = {"max_loss": 1.0, "max_class_recall_loss": 1.0, "max_ece_gain": 1.0}


def test_the_margin_is_held_against_the_best_champion_so_far(register, tracking):
    """Each loses a little more, within what so few images can show against the one before."""
    name = "test_the_margin_is_held_against_the_best_champion_so_far"
    register("good")
    slightly = register("slightly", **LAX)
    assert slightly.decision == "promoted"
    assert -0.05 < slightly.comparison.macro_f1.value < 0
    champion = find_champion(tracking, name, "champion")
    assert (champion.version, champion.best) == ("2", "1")
    assert find_best(tracking, name, champion).version == "1"
    # Against the champion alone the third would pass: its loss is within the margin.
    margin = -slightly.comparison.macro_f1.ci95[0] + 0.02
    rules = LAX | {"max_loss": margin}
    third = register("somewhat", **rules)
    assert third.champion.version == "2"
    assert failed(third) == ["loss_from_best"]
    check = next(check for check in third.checks if check.name == "loss_from_best")
    assert "against version 1, the best champion so far" in check.reason
    assert check.value < third.comparison.macro_f1.value < 0


def test_a_better_champion_is_the_best_from_then_on(register, tracking):
    name = "test_a_better_champion_is_the_best_from_then_on"
    register("somewhat")
    register("slightly")
    champion = find_champion(tracking, name, "champion")
    assert (champion.version, champion.best) == ("2", "2")
    assert find_best(tracking, name, champion) is None
    register("good")
    assert find_champion(tracking, name, "champion").best == "3"


def test_a_best_champion_that_a_person_took_away_counts_no_more(register, tracking):
    name = "test_a_best_champion_that_a_person_took_away_counts_no_more"
    register("good")
    register("slightly", **LAX)
    champion = find_champion(tracking, name, "champion")
    client = open_client(tracking)
    client.set_model_version_tag(name, "1", ROLLED_BACK_TAG, "true")
    assert find_best(tracking, name, champion) is None
    client.delete_model_version_tag(name, "1", ROLLED_BACK_TAG)
    assert find_best(tracking, name, champion).version == "1"
    client.delete_registered_model_alias(name, "previous")
    client.delete_model_version(name, "1")
    assert find_best(tracking, name, champion) is None


def test_a_best_champion_whose_files_are_lost_is_named(register, monkeypatch):
    register("good")
    register("slightly", **LAX)
    fetch = promotion.cached_bundle

    def lost(tracking, name, version, *others):
        if version == "1":
            raise PipelineError("models:/m/1 is damaged")
        return fetch(tracking, name, version, *others)

    monkeypatch.setattr(promotion, "cached_bundle", lost)
    message = r"models:/m/1 is damaged; version 1 of .* is the best champion .* delete the version"
    with pytest.raises(PipelineError, match=message):
        register("somewhat", **LAX)


def test_a_rollback_brings_back_the_best_that_counted_then(register, tracking):
    name = "test_a_rollback_brings_back_the_best_that_counted_then"
    register("slightly")
    register("somewhat", **LAX)
    register("good")
    assert find_champion(tracking, name, "champion").best == "3"
    assert roll_back(tracking, name, "champion") == ("2", "3")
    champion = find_champion(tracking, name, "champion")
    assert find_best(tracking, name, champion).version == "1"


def test_decisions_that_read_the_test_images_are_counted(register, tracking, folder):
    counted = [register(name).looks for name in ("good", "poor", "poor", "blind")]
    assert counted == [1, 2, 3, 4]
    assert register("good").looks == 4  # the champion already: nothing is read
    write_set(folder / "others", *bars(60, seed=5), BARS)
    assert register("poor", images="others").looks == 1
    assert register("blind").looks == 5


def test_what_was_rolled_back_is_not_promoted_again(register, tracking):
    name = "test_what_was_rolled_back_is_not_promoted_again"
    register("poor")
    register("good")
    assert roll_back(tracking, name, "champion") == ("1", "2")
    result = register("good")
    assert (result.decision, result.aliases) == ("refused", ("previous",))
    assert "version 2 was rolled back" in result.notes[0]
    # There and back again.
    assert roll_back(tracking, name, "champion") == ("2", "1")
    assert register("good").decision == "unchanged"


def test_another_promotion_meanwhile_is_met_too(register, tracking, monkeypatch):
    """Between the judgement and the promotion somebody else wins: judged again, against them."""
    name = "test_another_promotion_meanwhile_is_met_too"
    register("poor")
    register("other", min_gain_over_baseline=0.45)
    judge, met = promotion._evaluate_pair, []

    def while_another_wins(candidate, champion, registry):
        met.append(champion.version)
        pair = judge(candidate, champion, registry)
        if len(met) == 1:
            promote(tracking, name, "2", "champion", "1")
        return pair

    monkeypatch.setattr(promotion, "_evaluate_pair", while_another_wins)
    result = register("good", max_loss=1.0)
    assert met == ["1", "2"]
    assert (result.decision, result.champion.version) == ("promoted", "2")
    assert aliases(tracking, name) == {"champion": "3", "previous": "2"}


def test_killed_between_registration_and_promotion(register, tracking, monkeypatch):
    """What is left is a whole version without an alias, which the next call promotes."""
    register("poor")
    name = "test_killed_between_registration_and_promotion"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "promote", killed)
        with pytest.raises(KeyboardInterrupt):
            register("good")
    assert aliases(tracking, name) == {"champion": "1"}
    result = register("good")
    assert (result.version, result.aliases) == ("2", ("champion",))
    assert len(open_client(tracking).search_model_versions(f"name = '{name}'")) == 2


def test_a_champion_is_downloaded_once_and_mended(register, folder, monkeypatch):
    register("good")
    register("poor")
    cached = Path("cache") / bundle_digest(folder / "good")
    assert bundle_digest(cached) == cached.name
    (cached / "bundle.json").write_text("{}")
    register("blind")
    assert bundle_digest(cached) == cached.name
    monkeypatch.setattr("pipeline.runtime.registry.versions.fetch_bundle", None)
    assert register("timid").decision == "refused"


def test_a_champion_of_other_make(register, tracking):
    name = "test_a_champion_of_other_make"
    register("good")
    client = open_client(tracking)
    client.delete_model_version_tag(name, "1", "convoy.bundle")
    with pytest.raises(PipelineError, match=r"version 1 of .* was not registered by Convoy"):
        register("poor")


def test_a_champion_of_other_classes_is_wrong_where_it_knows_no_better(
    register, folder, tracking, params
):
    """It was trained before the class 'none' was called so."""
    older = load_bundle(folder / "good")
    classes = ("upright", "lying", "nothing")
    description = Description(**{**vars(older.description), "classes": classes})
    save_bundle(folder / "older", description, older.network.state_dict())
    register("older")
    result = register("good")
    assert result.decision == "promoted"
    assert result.champion.test.per_class["none"].recall.value == 0.0
    assert result.comparison.figures["accuracy"].value == pytest.approx(1 / 3)


def test_nobody_is_champion_of_a_model_that_is_not_there(tracking):
    open_client(tracking)
    assert find_champion(tracking, "nobody", "champion") is None


def test_figures_are_json(register):
    register("poor")
    result = register("good")
    write_report(Path("a.json"), result)
    assert read_report(Path("a.json"), Outcome) == result
