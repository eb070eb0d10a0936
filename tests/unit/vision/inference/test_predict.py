import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import gmean

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.params import parse
from pipeline.params.choices.transforms import Policy
from pipeline.params.choices.views import HorizontalFlip, Identity, Random, Rotate, Shift
from pipeline.vision.bundle.description import Description, Views
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import embeddings, probabilities, view_posteriors
from pipeline.vision.inference.views import build_views, expand
from tests.bundles import save_bundle

CLASSES = ("cat", "dog", "eel")
POLICY = [
    {"Affine": {"rotate": [-20, 20], "translate_percent": [-0.1, 0.1], "p": 1.0}},
    {"GaussNoise": {"std_range": [0.02, 0.1], "p": 0.5}},
]
ITEMS = (
    Identity(),
    HorizontalFlip(),
    Shift(x=0.125, y=0.0),
    Rotate(degrees=7),
    *expand([Random(draws=2, policy=parse(Policy, POLICY))]),
)


def make(folder, channels=1, dtype=np.uint8, **changes):
    """Write and load a bundle of random weights, the same each time."""
    torch.manual_seed(0)
    preprocessing = Preprocessing(16, 16, channels, "stretch", 0, 8 if dtype == np.uint8 else 16)
    description = Description(
        "lenet5", {}, CLASSES, preprocessing, (0.4,) * channels, (0.2,) * channels, **changes
    )
    network = description.build()
    with torch.no_grad():
        # So that images and views differ in what they are.
        network.head.weight *= 10
        pixels = torch.from_numpy(integers(32, 16, 16, channels)).permute(0, 3, 1, 2) / 255
        network.head.bias -= network.eval()((pixels - 0.4) / 0.2).mean(dim=0)
    save_bundle(folder, description, network.state_dict())
    return load_bundle(folder)


def integers(count, height, width, channels, dtype=np.uint8):
    """Draw images of squares of 4 px, which look less alike to a network than noise does."""
    shape = (count, height // 4, width // 4, channels)
    squares = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    return squares.repeat(4, axis=1).repeat(4, axis=2)


def by_hand(bundle, pixels):
    """Return the softmax of the network's answer to pixels in [0, 1], n x h x w x channels."""
    with torch.inference_mode():
        inputs = torch.from_numpy((pixels - 0.4) / 0.2).float().permute(0, 3, 1, 2)
        return softmax(bundle.network(inputs.contiguous()).double().numpy(), axis=1)


def test_a_plain_bundle_recomputed(tmp_path):
    bundle, images = make(tmp_path / "m"), integers(5, 16, 16, 1)
    given = probabilities(bundle, [images[:3], images[3:]])
    np.testing.assert_allclose(given, by_hand(bundle, images / 255), atol=1e-6)
    assert given.sum(axis=1) == pytest.approx(np.ones(5))
    assert given.std(axis=0).min() > 0.01
    assert embeddings(bundle, [images]).shape == (5, 84)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_views_and_temperature_recomputed(tmp_path, channels, dtype, mean):
    items = ({"identity": {}}, {"hflip": {}}, {"shift": {"x": 0.125, "y": 0.0}})
    views = Views(items, mean, 0)
    bundle = make(tmp_path / "m", channels, dtype, views=views, temperature=2.0)
    images = integers(4, 16, 16, channels, dtype=dtype)
    pixels = images / np.iinfo(dtype).max
    # An eighth of 16 px to the right, the border repeated.
    moved = np.concatenate([pixels[:, :, :1]] * 2 + [pixels[:, :, :-2]], axis=2)
    seen = [by_hand(bundle, view) for view in (pixels, pixels[:, :, ::-1], moved)]
    averaged = np.mean(seen, axis=0) if mean == "arithmetic" else gmean(seen, axis=0)
    expected = np.sqrt(averaged) / np.sqrt(averaged).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(bundle, [images]), expected, atol=1e-5)


def test_each_view_by_itself(tmp_path):
    """The network's own answer: the bundle's views and temperature are left out of it."""
    plain, images = make(tmp_path / "a"), integers(7, 16, 16, 1)
    shipped = make(tmp_path / "b", views=Views(ITEMS, "arithmetic", 3), temperature=2.0)
    views = build_views(ITEMS, 3, (16, 16, 1))
    found = [view_posteriors(shipped, [images[:4], images[4:]], view) for view in views]
    assert len(found) == len(ITEMS)
    np.testing.assert_allclose(found[0], probabilities(plain, [images]), atol=1e-6)
    for number, item in enumerate(ITEMS):
        one = make(tmp_path / "c", views=Views((item,), "geometric", 3))
        np.testing.assert_allclose(found[number], probabilities(one, [images]), atol=1e-6)
    roots = np.sqrt(np.mean(found, axis=0))
    np.testing.assert_allclose(
        probabilities(shipped, [images]), roots / roots.sum(axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_answer_does_not_depend_on_the_batch(tmp_path, mean):
    """Views of few images go through together, those of many do not."""
    bundle = make(tmp_path / "m", views=Views(ITEMS, mean, 0), temperature=0.8)
    images = integers(70, 16, 16, 1)
    together = probabilities(bundle, [images])
    alone = probabilities(bundle, [images[row : row + 1] for row in range(70)])
    backwards = probabilities(bundle, [images[40:][::-1].copy(), images[:40][::-1].copy()])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(backwards, together, atol=1e-6)
    again = load_bundle(tmp_path / "m")
    np.testing.assert_array_equal(probabilities(again, [images]), together)


def test_a_bundle_of_format_1_answers_as_before(tmp_path):
    bundle, images = make(tmp_path / "m"), integers(5, 16, 16, 1)
    path = tmp_path / "m/bundle.json"
    old = json.loads(path.read_text()) | {"format": 1}
    old["preparing"] = old.pop("preprocessing")
    del old["views"], old["temperature"], old["compute"]
    path.write_text(json.dumps(old))
    answers = probabilities(load_bundle(tmp_path / "m"), [images])
    np.testing.assert_array_equal(answers, probabilities(bundle, [images]))


def test_one_view_as_it_is_and_a_temperature_of_one_change_no_bit(tmp_path):
    images = integers(5, 16, 16, 1)
    plain = probabilities(make(tmp_path / "a"), [images])
    named = make(tmp_path / "b", views=Views(({"identity": {}},), "geometric", 0))
    np.testing.assert_array_equal(probabilities(named, [images]), plain)


def test_certain_posteriors_are_tempered_to_numbers(tmp_path):
    """Logits so far apart that a posterior is 0 and another 1."""
    bundle = make(tmp_path / "m", views=Views(ITEMS, "geometric", 0), temperature=3.0)
    with torch.no_grad():
        bundle.network.head.weight *= 1e5
    answers = probabilities(bundle, [integers(6, 16, 16, 1)])
    assert np.isfinite(answers).all()
    assert answers.sum(axis=1) == pytest.approx(np.ones(6))


@pytest.mark.parametrize("items", [None, ITEMS])
def test_no_images_give_no_rows(tmp_path, items):
    views = items and Views(items, "geometric", 0)
    bundle = make(tmp_path / "m", views=views, temperature=2.0)
    assert probabilities(bundle, []).shape == (0, 3)
    assert embeddings(bundle, []).shape == (0, 84)
    (view,) = build_views(ITEMS[:1], 0, (16, 16, 1))
    assert view_posteriors(bundle, [], view).shape == (0, 3)


def test_embeddings_are_of_the_image_as_it_is(tmp_path):
    images = integers(5, 16, 16, 1)
    plain, shipped = make(tmp_path / "a"), make(tmp_path / "b", views=Views(ITEMS, "geometric", 0))
    np.testing.assert_array_equal(embeddings(plain, [images]), embeddings(shipped, [images]))


def test_a_policy_that_does_not_suit_the_images_is_one_line(tmp_path):
    policy = [{"ISONoise": {}}]
    views = Views(({"random": {"draw": 0, "policy": policy}},), "arithmetic", 0)
    with pytest.raises(PipelineError) as caught:
        probabilities(make(tmp_path / "m", views=views), [integers(1, 16, 16, 1)])
    assert str(caught.value).startswith("the view 'random 1': policy[0].ISONoise: needs colour")
    assert "\n" not in str(caught.value)
