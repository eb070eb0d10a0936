import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from pipeline.errors import PipelineError
from pipeline.evaluation.baseline import _budget, _estimators, choice, classical
from pipeline.params import Baseline

NAMES = ("ant", "bee", "cat")
CLASSIFIERS = ("linear_discriminant", "logistic_regression", "random_forest", "svm")


def how(classifier, class_weight="balanced", seed=0, **limits):
    return Baseline(
        seed=seed,
        classifier=classifier,
        class_weight=class_weight,
        **{"rows_per_class": 500, "tuning_rows": 100} | limits,
    )


def fit(features, labels, given, names=NAMES, jobs=1):
    return classical.fit(features, labels, names, given, metric="macro_f1", jobs=jobs)


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(_estimators, "_TRIAL_TREES", 20)
    monkeypatch.setattr(_estimators, "MOST_TREES", 40)


@pytest.fixture
def untuned(monkeypatch):
    """Named classifiers are taken as they are."""
    monkeypatch.setattr(choice, "_MOST_TUNED_CLASSES", 0)


@pytest.fixture(scope="module")
def data():
    # The first 3 of 8 features tell the classes apart.
    features, labels = make_classification(
        240, 8, n_informative=3, n_redundant=0, n_classes=3, n_clusters_per_class=1,
        class_sep=2.0, shuffle=False, random_state=0,
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(240)
    return features[order].astype(np.float32), labels[order]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_learns_and_repeats_at_any_number_of_threads(data, classifier):
    features, labels = data
    found = []
    for jobs in (1, 2):
        fitted = fit(features[:160], labels[:160], how(classifier), jobs=jobs)
        assert fitted.chosen.classifier == classifier
        assert fitted.rows == 160
        found.append(classical.posteriors(fitted.model, features[160:], 3))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0].sum(axis=1), 1)
    assert accuracy_score(labels[160:], found[0].argmax(axis=1)) > 0.85


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("classifier", CLASSIFIERS[:3])
def test_informative_features_matter_most(data, classifier):
    features, labels = data
    weights = classical.importances(fit(features, labels, how(classifier)).model)
    assert weights.shape == (8,)
    assert weights[:3].min() > weights[3:].max()


def test_groups_of_features_that_tell_nothing_lose_nothing(data):
    features, labels = data
    # An SVM has no importances of its own, and is asked alike.
    model = fit(features, labels, how("svm")).model
    assert classical.importances(model) is None
    groups = {"telling": 3, "noise": 5}
    losses = classical.group_losses(model, features, labels, groups, seed=0)
    assert list(losses) == ["telling", "noise"]
    # Without the first three, two answers of three are wrong.
    assert losses["telling"] > 0.5
    assert abs(losses["noise"]) < 0.05
    again = classical.group_losses(model, features, labels, groups, seed=0)
    assert again == losses


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_a_forest_that_grows_in_parts_is_the_one_of_scikit_learn(data, class_weight):
    features, labels = data
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 2)[:9]]  # class 1 has none
    model = fit(features[rows], labels[rows], how("random_forest", class_weight, seed=3)).model
    whole = RandomForestClassifier(
        40, class_weight={"none": None}.get(class_weight, class_weight), random_state=3
    )
    scaled = StandardScaler().fit(features[rows])
    whole.fit(scaled.transform(features[rows]), labels[rows])
    expected = whole.predict_proba(scaled.transform(features))
    np.testing.assert_allclose(
        classical.posteriors(model, features, 3)[:, [0, 2]], expected, atol=1e-12
    )


def test_balanced_weights_help_the_rare_class():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(1.5, 1, (15, 2))])
    labels = np.repeat([0, 1], [300, 15])
    for classifier in ("logistic_regression", "linear_discriminant"):
        recalls = []
        for weight in ("none", "balanced"):
            chosen = how(classifier, weight)
            model = fit(features.astype(np.float32), labels, chosen, NAMES[:2]).model
            recalls.append(model.predict(features)[300:].mean())
        assert recalls[1] > recalls[0] + 0.2


@pytest.mark.usefixtures("untuned")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_class_without_training_images_gets_no_probability(data, classifier):
    features, labels = data
    model = fit(features, labels * 2, how(classifier), ("a", "b", "c", "d", "e")).model
    posteriors = classical.posteriors(model, features, 5)
    assert (posteriors[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(posteriors.sum(axis=1), 1)


def test_one_class_is_an_error():
    with pytest.raises(PipelineError, match=r"expected training images of at least 2 classes.* 1;"):
        classical.training_rows(np.ones(3, int), 8, how("svm"))


def test_an_svm_needs_two_images_of_each_class_and_not_too_many_classes(data):
    features, labels = data
    rows = np.concatenate([np.flatnonzero(labels < 2), np.flatnonzero(labels == 2)[:1]])
    with pytest.raises(PipelineError, match=r"svm needs 2 .* found 1 of 'cat'; .*random_forest"):
        fit(features[rows], labels[rows], how("svm"))
    # `auto` goes without it.
    fitted = fit(features[rows], labels[rows], how("auto"))
    assert {trial.classifier for trial in fitted.tried} == {*CLASSIFIERS} - {"svm"}
    message = r"svm: expected at most 100 classes, found 101; choose auto or linear_discriminant"
    with pytest.raises(PipelineError, match=message):
        fit(np.zeros((202, 4), np.float32), np.arange(202) % 101, how("svm"), ["x"] * 101)


def test_the_choice_is_the_best_in_cross_validation_and_repeats(data):
    """Recomputed for one setting, with scikit-learn and the folds as they are promised."""
    features, labels = data
    fitted = fit(features, labels, how("auto", tuning_rows=150))
    assert len(fitted.tried) == 12
    scores = [trial.score for trial in fitted.tried]
    assert fitted.chosen == fitted.tried[int(np.argmax(scores))]
    again = fit(features, labels, how("auto", tuning_rows=150), jobs=2)
    assert (again.chosen, again.tried) == (fitted.chosen, fitted.tried)
    rows = _budget.capped(labels, 500, 150, 0)
    assert len(rows) == 150
    x, y = features[rows], labels[rows]
    folds = choice._folds(y, 0)
    # The rows of each class are shared out evenly.
    table = np.array([np.bincount(folds[y == label], minlength=3) for label in range(3)])
    assert np.ptp(table, axis=1).max() <= 1
    said = np.empty_like(y)
    for fold in range(3):
        scaler = StandardScaler().fit(x[folds != fold])
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=[1 / 3] * 3)
        model.fit(scaler.transform(x[folds != fold]), y[folds != fold])
        said[folds == fold] = model.predict(scaler.transform(x[folds == fold]))
    f1 = [
        2 * ((said == c) & (y == c)).sum() / ((said == c).sum() + (y == c).sum()) for c in range(3)
    ]
    assert fitted.tried[0].score == pytest.approx(np.mean(f1), abs=1e-6)


def test_a_setting_that_suits_the_data_is_chosen():
    """On points in rings no line tells classes apart, and a kernel does."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 2
    radius, angle = 1 + labels + rng.normal(0, 0.1, 150), rng.uniform(0, 2 * np.pi, 150)
    features = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    fitted = fit(features.astype(np.float32), labels, how("auto"), NAMES[:2])
    assert fitted.chosen.classifier in {"random_forest", "svm"}
    assert fitted.chosen.score > 0.9
    assert max(t.score for t in fitted.tried if t.classifier.startswith("l")) < 0.75


def test_rows_per_class_are_capped_and_rare_classes_are_kept():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [200, 40, 3]))
    rows = classical.training_rows(labels, 10, how("auto", rows_per_class=50))
    assert np.bincount(labels[rows]).tolist() == [50, 40, 0, 3]
    assert (np.diff(rows) > 0).all()
    again = classical.training_rows(labels, 10, how("auto", rows_per_class=50))
    np.testing.assert_array_equal(again, rows)
    other = classical.training_rows(labels, 10, how("auto", rows_per_class=50, seed=1))
    assert not np.array_equal(other, rows)
    # All in all, the largest classes give first; each keeps one.
    assert np.bincount(labels[_budget.capped(labels, 50, 60, 0)]).tolist() == [28, 28, 0, 3]
    assert np.bincount(labels[_budget.capped(labels, 50, 2, 0)]).tolist() == [1, 1, 0, 1]
    assert len(_budget.capped(labels, 500, 500, 0)) == len(labels)


def test_many_classes_and_wide_features_have_a_bound(monkeypatch):
    # Float32 of 2^26 values are 256 MiB.
    assert _budget.most_rows("linear_discriminant", 2**10, 3000) == 2**16
    assert _budget.most_rows("svm", 300, 50) == 4000
    # 2e9 / (300 x 1,000)
    assert _budget.most_rows("logistic_regression", 300, 1000) == 6666
    # Of 100 classes, the features themselves are the bound.
    assert _budget.most_rows("random_forest", 300, 100) == 2**26 // 300
    for classes in (1000, 3000):
        rows = _budget.most_rows("random_forest", 300, classes)
        # As many as ten trees may have, which count_trees promises.
        sums = 10 * rows * np.log2(rows) * np.sqrt(300) * classes
        assert 0.99e11 < sums < 1.01e11
        assert _budget.count_trees(int(0.9 * rows), 300, classes) == 10
    labels = np.repeat(np.arange(30), 4)
    features = (labels[:, None] + np.random.default_rng(0).normal(size=(120, 3))).astype(np.float32)
    names = [str(label) for label in range(30)]
    monkeypatch.setattr(choice, "_MOST_TUNED_CLASSES", 29)
    fitted = fit(features, labels, how("auto"), names)
    # Of many classes, only what is solved in one step is tried.
    assert {trial.classifier for trial in fitted.tried} == {"linear_discriminant"}
    named = fit(features, labels, how("random_forest"), names)
    assert (named.chosen.classifier, list(named.tried)) == ("random_forest", [])


@pytest.mark.usefixtures("untuned")
def test_a_forest_of_many_classes_stays_within_its_memory(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 50)
    features = (labels[:, None] + rng.normal(size=(1000, 5)) * 3).astype(np.float32)
    names = [str(label) for label in range(20)]
    free = fit(features, labels, how("random_forest"), names).model[-1]
    monkeypatch.setattr(_budget, "_FOREST_BYTES", 2**19)
    small = fit(features, labels, how("random_forest"), names).model[-1]
    used, bound = (sum(tree.tree_.value.nbytes for tree in forest) for forest in (free, small))
    assert used > 2**20
    assert 2**18 < bound <= 2**19
    monkeypatch.setattr(_budget, "_FOREST_BYTES", 2**30)
    # 2^30 / (300 trees x 2 x 100 x 8 bytes)
    assert _budget.most_leaves(40_000, 100, 300) == 2236
    assert _budget.most_leaves(2236, 100, 300) is None


def test_a_forest_of_many_classes_has_fewer_trees():
    assert _budget.count_trees(10_000, 64, 100) == 300
    # 1e11 / (10,000 x log2(10,000) x sqrt(64) x 2,000) = 47.0
    assert _budget.count_trees(10_000, 64, 2000) == 40
    assert _budget.count_trees(1_000_000, 64, 3000) == 10
