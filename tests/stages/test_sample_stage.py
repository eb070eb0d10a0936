"""sample, and where data.root is found."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.stages import index, pack, sample, split
from pipeline.vision import torchvision_data
from tests.images import noise, params_with, write_folder

pytestmark = pytest.mark.usefixtures("project")


def test_the_sample_is_not_made_for_other_images(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.run(params_with(data={"root": "in"}))
    assert capsys.readouterr().out == "sample: not made, for data.root is in\n"
    assert [path.name for path in Path("data/sample").iterdir()] == ["SOURCE.md"]
    sample.run(params_with(data={"root": "data/sample"}))
    assert len(list(Path("data/sample").rglob("*.png"))) > 500


def test_sample_writes_a_torchvision_data_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.repeat([0, 1], 20)
    parts = [
        torchvision_data.Part("train", ("T-shirt/top", "Bag"), labels, noise),
        torchvision_data.Part("test", ("T-shirt/top", "Bag"), labels[15:25], noise),
    ]
    asked = []

    def fetch(name: str, downloads: Path) -> list[torchvision_data.Part]:
        asked.append((name, downloads))
        return parts

    monkeypatch.setattr(torchvision_data, "fetch", fetch)
    params = params_with(sample={"source": "FashionMNIST", "imbalance_ratio": 10.0})
    sample.run(params)
    assert asked == [("FashionMNIST", Path(".convoy/downloads"))]
    assert capsys.readouterr().out == "sample: 32 images of FashionMNIST -> data/sample\n"
    counts = {
        f"{part}/{label}": len(list(Path("data/sample", part, label).iterdir()))
        for part in ("train", "test")
        for label in ("T-shirt_top", "Bag")
    }
    assert counts == {"train/T-shirt_top": 20, "train/Bag": 2, "test/T-shirt_top": 5, "test/Bag": 5}
    assert np.array_equal(Image.open("data/sample/test/Bag/000007.png"), noise(7))
    assert "torchvision does not state" in Path("data/sample/SOURCE.md").read_text()
    assert sorted(p.name for p in Path("data/sample").iterdir()) == ["SOURCE.md", "test", "train"]


def _copy_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a copy as DVC makes it for an experiment."""
    copy = home / ".dvc/tmp/exps/standalone/one"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(home))
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    monkeypatch.chdir(copy)
    return copy


@pytest.mark.parametrize("root", ["images", "../images", "deep/er/images/list.csv"])
def test_relative_roots_are_found_in_a_copy_that_dvc_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    folder = project / root
    if folder.suffix:
        files = sorted(write_folder(folder.parent).rglob("*.png"))
        names = [file.relative_to(folder.parent).as_posix() for file in files]
        folder.write_text("path,label\n" + "".join(f"{n},{n[:3]}\n" for n in names))
    else:
        write_folder(folder)
    params = params_with(data={"root": root})
    index.run(params)
    expected = Path("data/index.parquet").read_bytes()
    copy = _copy_of(project, monkeypatch)
    for _ in range(2):
        for stage in (sample, index, split, pack):
            stage.run(params)
    assert Path("data/index.parquet").read_bytes() == expected
    assert (copy / root).resolve() == folder.resolve()  # DVC hashes what lies there
    assert not (copy / ".convoy").exists()  # what is remembered is remembered in the repository


def test_a_root_far_outside_is_asked_for_in_full(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = project / "a/b/c/d"
    deep.mkdir(parents=True)
    write_folder(project / "images")
    _copy_of(deep, monkeypatch)
    with pytest.raises(PipelineError, match=rf"leads out of the copy .*; write {project}/images"):
        sample.run(params_with(data={"root": "../../../../images"}))


def test_the_home_is_found_and_dvc_is_given_the_whole_path(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    write_folder(project / "home/images")
    params = params_with(data={"root": "~/images"})
    for stage in (index, split, pack):
        stage.run(params)
    monkeypatch.setenv("DVC_ROOT", str(project))
    message = rf"data.root is ~/images, and DVC does not know ~; write {project}/home/images"
    with pytest.raises(PipelineError, match=message):
        sample.run(params)


def test_a_root_that_is_not_there_is_named_before_dvc_looks_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project))
    with pytest.raises(PipelineError, match=r"data.root is imags: no such file or folder in .*"):
        sample.run(params_with(data={"root": "imags"}))


def test_the_three_stages_start_without_torch() -> None:
    code = (
        "import sys; from pipeline.stages import sample, index, split;"
        " sys.exit(', '.join({'torch', 'ray', 'mlflow', 'albumentations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
