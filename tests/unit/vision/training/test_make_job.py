import pytest

from pipeline.data.shards.statistics import channel_statistics, images_digest
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.vision.training.make_job import InitialWeights, make_job
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_sets

PARAMS = load_params(ROOT / "params.yaml")
KNOWN = ((0.125,), (0.5,))


@pytest.fixture
def folders(tmp_path):
    images, validation = write_sets(tmp_path, 12, 6)
    return {"images": [images], "validation": validation}


@pytest.fixture
def images(folders):
    return write_set(folders["images"][0], *bars(12), BARS)


def make(folders, initial=None, **changes):
    recipe = PARAMS.train.model_copy(update=changes)
    return make_job("train", PARAMS.model, recipe, **folders, initial=initial or InitialWeights())


def test_random_weights_and_the_statistics_of_the_data(folders, images):
    job = make(folders)
    assert (job.weights, job.origin) == (None, "random")
    assert (job.mean, job.std) == channel_statistics(images)
    assert (job.stage, job.network, job.args) == ("train", "lenet5", {})
    assert job.images == (folders["images"][0].resolve(),)
    assert job.images_digest == images_digest(folders["images"])
    assert job.validation_digest == images_digest([folders["validation"]])
    assert job.classes == BARS
    assert job.preprocessing == images.info.preprocessing


@pytest.mark.parametrize(
    ("known", "asked", "expected"),
    [
        (KNOWN, "auto", KNOWN),
        (KNOWN, "data", None),
        (None, "auto", None),
        (None, "imagenet", (((0.485 + 0.456 + 0.406) / 3,), ((0.229 + 0.224 + 0.225) / 3,))),
        # of three channels, for images of one: their mean
        (((0.1, 0.2, 0.6), (0.5, 0.5, 0.8)), "auto", ((0.3,), (0.6,))),
    ],
)
def test_the_normalisation_is_a_choice(folders, images, known, asked, expected):
    job = make(folders, InitialWeights(None, "elsewhere", known), normalization=asked)
    mean, std = expected or channel_statistics(images)
    assert job.mean == pytest.approx(mean)
    assert job.std == pytest.approx(std)


def test_sets_that_cannot_train(folders):
    pictures, _ = bars(3)
    write_set(folders["validation"], pictures[:0], [], BARS)
    with pytest.raises(PipelineError, match="the validation set has no images"):
        make(folders)
    write_set(folders["validation"], *bars(3), ("other", "class", "names"))
    with pytest.raises(PipelineError, match="were packed differently; run dvc repro"):
        make(folders)
    with pytest.raises(PipelineError, match="no packed images in"):
        make(folders | {"validation": folders["validation"] / "none"})
