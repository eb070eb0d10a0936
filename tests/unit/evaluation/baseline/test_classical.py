import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from pipeline.errors import PipelineError
from pipeline.evaluation.baseline import classical
from pipeline.params import Baseline

NAMES = ("ant", "bee", "cat")
CLASSIFIERS = ("logistic_regression", "random_forest", "svm")


def how(classifier, class_weight="balanced", seed=0):
    return Baseline(seed=seed, classifier=classifier, class_weight=class_weight)


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
    for jobs in (1, 2, 2):
        model = classical.fit(features[:160], labels[:160], NAMES, how(classifier), jobs)
        found.append(classical.posteriors(model, features[160:], 3))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_allclose(found[0].sum(axis=1), 1)
    assert accuracy_score(labels[160:], found[0].argmax(axis=1)) > 0.85


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_informative_features_matter_most(data, classifier):
    features, labels = data
    model = classical.fit(features, labels, NAMES, how(classifier), 1)
    weights = classical.importances(model, features, labels, seed=0)
    assert weights.shape == (8,)
    assert weights[:3].min() > weights[3:].max()


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_a_forest_that_grows_in_parts_is_the_one_of_scikit_learn(data, class_weight):
    features, labels = data
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 2)[:9]]  # class 1 has none
    given = how("random_forest", class_weight, seed=3)
    model = classical.fit(features[rows], labels[rows], NAMES, given, 2)
    whole = RandomForestClassifier(
        300, class_weight={"none": None}.get(class_weight, class_weight), random_state=3
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
    recalls = []
    for weight in ("none", "balanced"):
        chosen = how("logistic_regression", weight)
        model = classical.fit(features.astype(np.float32), labels, NAMES[:2], chosen, 1)
        recalls.append(model.predict(features)[300:].mean())
    assert recalls[1] > recalls[0] + 0.2


def test_a_class_without_training_images_gets_no_probability(data):
    features, labels = data
    model = classical.fit(features, labels * 2, ("a", "b", "c", "d", "e"), how("random_forest"), 1)
    posteriors = classical.posteriors(model, features, 5)
    assert (posteriors[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(posteriors.sum(axis=1), 1)


def test_one_class_is_an_error():
    with pytest.raises(PipelineError, match=r"expected training images of at least 2 classes.* 1;"):
        classical.fit(np.zeros((3, 2), np.float32), np.ones(3, int), NAMES, how("svm"), 1)


def test_an_svm_needs_two_images_of_each_class(data):
    features, labels = data
    rows = np.concatenate([np.flatnonzero(labels < 2), np.flatnonzero(labels == 2)[:1]])
    with pytest.raises(PipelineError, match=r"svm needs 2 .* found 1 of 'cat'; .*random_forest"):
        classical.fit(features[rows], labels[rows], NAMES, how("svm"), 1)


def test_a_forest_of_many_classes_stays_within_its_memory(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 50)
    features = (labels[:, None] + rng.normal(size=(1000, 5)) * 3).astype(np.float32)
    names = [str(label) for label in range(20)]
    free = classical.fit(features, labels, names, how("random_forest"), 1)[-1]
    monkeypatch.setattr(classical, "_FOREST_BYTES", 2**22)
    small = classical.fit(features, labels, names, how("random_forest"), 1)[-1]
    used, bound = (sum(tree.tree_.value.nbytes for tree in forest) for forest in (free, small))
    assert used > 2**23
    assert 2**21 < bound <= 2**22
    monkeypatch.setattr(classical, "_FOREST_BYTES", 2**30)
    # 2^30 / (300 trees x 2 x 100 x 8 bytes)
    assert classical._most_leaves(40_000, 100, 300) == 2236
    assert classical._most_leaves(2236, 100, 300) is None


def test_a_forest_of_many_classes_has_fewer_trees():
    assert classical._count_trees(10_000, 64, 100) == 300
    # 1e11 / (10,000 x log2(10,000) x sqrt(64) x 2,000) = 47.0
    assert classical._count_trees(10_000, 64, 2000) == 40
    assert classical._count_trees(1_000_000, 64, 3000) == 10
    data = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    labels = np.arange(60) % 3
    assert len(classical.fit(data, labels, list("abc"), how("random_forest"), 1)[-1]) == 300
