import hashlib
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.indexing import measurements as measure
from pipeline.data.shards.shards import ImageSet
from pipeline.data.sources.parquet import ParquetSource
from pipeline.errors import PipelineError
from pipeline.params import Params, load_params
from pipeline.stages import index, pack, sample, split
from pipeline.vision import torchvision_data
from tests.hub import write_hub_file
from tests.pictures import line_drawing, xray

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def _params(**sections: dict[str, Any]) -> Params:
    params = load_params(PARAMS)
    changed = {
        name: getattr(params, name).model_copy(update=values) for name, values in sections.items()
    }
    return params.model_copy(update=changed)


def _picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8))


def _folder(root: Path, count: int = 30) -> Path:
    for number in range(count):
        path = root / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(number).save(path)
    return root


def _digests() -> dict[str, str]:
    return {
        path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "reports")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_the_chain_on_the_digits_twice_gives_the_same_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = _params()
    for stage in (sample, index, split):
        stage.run(params)
    first = _digests()
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("images of digits -> data/sample")
    count = int(said[0].split()[1])
    assert said[1] == (
        f"index: {count} images in 10 classes, 0 left out -> data/index.parquet, reports/data.json"
    )
    assert re.fullmatch(r"split: \d+ train, \d+ val, \d+ test -> data/split\.parquet", said[2])
    table = pq.read_table("data/split.parquet")
    assert len(table) == count
    assert set(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)) == {
        (str(digit), name) for digit in range(10) for name in ("train", "val", "test")
    }
    for stage in (sample, index, split):
        stage.run(params)
    assert _digests() == first


def test_the_bytes_depend_neither_on_workers_nor_on_the_cache(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _params(data={"root": str(_folder(project / "in"))})
    index.run(params)
    first = _digests()
    monkeypatch.setattr(measure, "_IMAGES_PER_PIECE", 4)
    monkeypatch.setattr("pipeline.parallel.usable_cores", lambda: 2)
    (cache,) = Path(".convoy/index").iterdir()
    cache.unlink()
    index.run(params)
    assert _digests() == first


def _huge_png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _broken_folder(root: Path) -> Path:
    _folder(root, 60)
    whole = (root / "cat/00.png").read_bytes()
    (root / "cat/truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat/zero.png").touch()
    (root / "cat/text.jpg").write_text("just text")
    (root / "dog/huge.png").write_bytes(_huge_png())
    Image.new("L", (3, 9)).save(root / "dog/tiny.png")
    _picture(500).save(root / "cat/both.png")
    _picture(500).save(root / "dog/both.png")
    _picture(1).save(root / "dog/again.png")
    return root


REASONS = [
    ("cat/both.png", "same content under two labels: cat, and dog as dog/both.png"),
    ("cat/text.jpg", "not an image: no known format"),
    ("cat/truncated.png", "truncated: the file ends before the image does"),
    ("cat/zero.png", "empty: 0 bytes"),
    ("dog/again.png", "copy of dog/01.png"),
    ("dog/both.png", "same content under two labels: dog, and cat as cat/both.png"),
    (
        "dog/huge.png",
        "too large: 30000 x 30000 px is 900000000 pixels, index.max_pixels is 100000000",
    ),
    ("dog/tiny.png", "too small: 3 x 9 px, index.min_side is 4 px"),
]


def test_a_broken_folder_is_listed_with_reasons(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = _params(
        data={"root": str(_broken_folder(project / "in"))}, index={"max_bad_fraction": 0.2}
    )
    index.run(params)
    report = json.loads(Path("reports/data.json").read_text())
    assert [(row["path"], row["problem"]) for row in report["left_out"]] == REASONS
    assert report["bad"] == 7
    assert report["usable"] == 60
    said = capsys.readouterr().out
    assert "index: 60 images in 2 classes, 8 left out (1 copy, 1 empty, 1 not an image," in said
    split.run(params)
    assert len(pq.read_table("data/split.parquet")) == 60


def test_too_many_bad_files_stop_the_run_but_leave_the_list(project: Path) -> None:
    params = _params(
        data={"root": str(_broken_folder(project / "in"))}, index={"max_bad_fraction": 0.1}
    )
    message = (
        r"7 of 68 files in .*/in cannot be used, more than index\.max_bad_fraction = 0\.1:"
        r" cat/both\.png \(same content .*\), cat/text\.jpg \(not an image: .*\), .* and 4 more;"
        r" all are listed in reports/data\.json; repair or remove them, or raise the fraction"
    )
    with pytest.raises(PipelineError, match=message):
        index.run(params)
    assert len(json.loads(Path("reports/data.json").read_text())["left_out"]) == 8
    assert not Path("data/index.parquet").exists()


def test_a_single_class_stops_the_run(project: Path) -> None:
    (project / "in/cat").mkdir(parents=True)
    _picture(0).save(project / "in/cat/0.png")
    with pytest.raises(PipelineError, match="found the single class cat"):
        index.run(_params(data={"root": "in"}))


def test_a_manifest_with_groups_reaches_the_split(project: Path) -> None:
    _folder(project / "in", 40)
    rows = [f"{'cat' if n % 2 == 0 else 'dog'}/{n:02d}.png" for n in range(40)]
    lines = [f"{path},{path[:3]},patient{n // 4}" for n, path in enumerate(rows)]
    (project / "in/list.csv").write_text("path,label,group\n" + "\n".join(lines) + "\n")
    params = _params(data={"root": "in/list.csv"})
    index.run(params)
    split.run(params)
    table = pq.read_table("data/split.parquet").to_pylist()
    assert len(table) == 40
    for patient in range(10):
        assert len({row["split"] for row in table if row["group"] == f"patient{patient}"}) == 1


def _xrays(root: Path) -> Path:
    """Three classes; each patient has one to five images, all of one class."""
    for patient in range(60):
        for visit in range(patient % 5 + 1):
            label = ("clear", "fluid", "mass")[patient % 3]
            path = root / label / f"{patient:08d}_{visit:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            xray(100 * patient + visit, 40).save(path)
    return root


PATTERN = r"(\d{8})_"


@pytest.mark.parametrize("kind", ["folder", "manifest", "parquet"])
def test_groups_come_from_a_pattern_on_the_path(
    project: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    root = _xrays(project / "in")
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    pattern = PATTERN
    if kind == "manifest":
        rows = [f"{path},{path.split('/')[0]}" for path in paths]
        (root / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        root = root / "list.csv"
    elif kind == "parquet":  # a file for each patient
        for number in range(60):
            own = [path for path in paths if f"{number:08d}_" in path]
            contents = [(root / path).read_bytes() for path in own]
            labels = [["clear", "fluid", "mass"].index(path.split("/")[0]) for path in own]
            file = project / f"hub/{number:08d}.parquet"
            write_hub_file(file, contents, labels, ("clear", "fluid", "mass"))
        root, pattern = project / "hub", r"(\d{8})\."
    data = {"root": str(root)}
    index.run(_params(data=data))
    if kind != "parquet":
        split.run(_params(data=data))
        said = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(
            r"split: hint: \d+ of \d+ test images may show what train or val show too, by names"
            r" such as \w+/(\d{8})_\d+.png and \w+/\1_\d+.png; if such images belong together,"
            r" set split\.group_from: '.*'",
            said,
        )
        own = said.rpartition("group_from: ")[2].strip("'")
        assert json.loads(Path("reports/data.json").read_text())["group_hint"]["pattern"] == own
        assert len(_patients(_params(split={"group_from": own}), PATTERN)) == 60
        capsys.readouterr()
    assert len(_patients(_params(split={"group_from": pattern}), pattern)) == 60
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "split: 60 groups in 180 of 180 paths"
    assert "hint" not in said[-1]


def _patients(params: Params, pattern: str) -> dict[str, str]:
    """Split; return the split of each patient, who must have but one."""
    split.run(params)
    found: dict[str, str] = {}
    for row in pq.read_table("data/split.parquet").to_pylist():
        (patient,) = re.findall(pattern, row["path"])
        assert found.setdefault(patient, row["split"]) == row["split"]
    return found


def test_given_groups_come_before_the_pattern(project: Path) -> None:
    root = _xrays(project / "in")
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    rows = [f"{path},{path.split('/')[0]},{'film' if '0_' in path else ''}" for path in paths]
    (root / "list.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    index.run(_params(data={"root": "in/list.csv"}))
    split.run(_params(split={"group_from": PATTERN}))
    for row in pq.read_table("data/split.parquet").to_pylist():
        number = re.findall(PATTERN, row["path"])[0]
        assert row["group"] == ("film" if number.endswith("0") else number)


def test_a_pattern_that_no_path_matches_stops_the_split(project: Path) -> None:
    index.run(_params(data={"root": str(_folder(project / "in"))}))
    message = r"the pattern patient is found in no path, such as cat/00\.png; repair it, or set it"
    with pytest.raises(PipelineError, match=message):
        split.run(_params(split={"group_from": "patient"}))


def test_given_splits_with_copies_stop_then_drop(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, part in enumerate(("train", "val", "test")):
        for label in ("cat", "dog"):
            for copy in range(4):
                path = project / "in" / part / label / f"{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                _picture(1000 * number + 10 * copy + len(label + part) + (label == "cat")).save(
                    path
                )
    photo = _picture(7).resize((64, 64), Image.Resampling.BICUBIC)
    photo.save(project / "in/test/cat/photo.png")
    photo.resize((50, 50)).save(project / "in/train/cat/photo.jpg", quality=60)
    root = {"root": "in"}
    index.run(_params(data=root))
    with pytest.raises(PipelineError, match=r"1 picture or group lies .*test/cat/photo\.png and"):
        split.run(_params(data=root))
    capsys.readouterr()
    split.run(_params(data=root, split={"across_given_splits": "drop"}))
    assert capsys.readouterr().out == (
        "split: 8 train, 8 val, 9 test, 1 dropped as copies of test or val images ->"
        " data/split.parquet\n"
    )


def _rows_by_content(root: Path, **sections: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Index, split and pack; return label, split and pixels of each content hash."""
    params = _params(data={"root": str(root)}, **sections)
    for stage in (index, split, pack):
        stage.run(params)
    rows = {}
    for name in ("train", "val", "test"):
        packed = ImageSet.open(Path("data/packed") / name)
        pixels = packed.gather(np.arange(len(packed)))
        labels = (packed.info.classes[label] for label in packed.labels)
        for content, label, image in zip(packed.ids, labels, pixels, strict=True):
            rows[content] = (name, label, image.tobytes())
    return rows


@pytest.mark.parametrize("given", [False, True])
def test_parquet_files_give_what_the_folder_of_the_same_images_gives(
    project: Path, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, names = ("cat", "dog"), ("train", "test") if given else ("all",)
    for number in range(120):
        where = names[number % 7 == 0] + "/" if given else ""
        path = project / "in" / where / classes[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(number).save(path)
    (project / "in/notes.md").touch()
    for name in names:
        images = sorted((project / "in" / (name if given else "")).rglob("*.png"))
        write_hub_file(
            project / f"hub/data/{name}-00000-of-00001.parquet",
            [path.read_bytes() for path in images],
            [classes.index(path.parent.name) for path in images],
            classes,
            rows_per_group=17,
        )
    expected = _rows_by_content(project / "in")
    assert len(expected) == 120
    assert _rows_by_content(project / "hub") == expected
    report = Path("reports/data.json").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("an image was read")

    with monkeypatch.context() as patch:
        patch.setattr(ParquetSource, "read", refuse)
        index.run(_params(data={"root": str(project / "hub")}))
    assert Path("reports/data.json").read_bytes() == report


def test_drawings_of_one_template_are_no_near_duplicates_but_their_copies_are(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        path = project / "in" / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        line_drawing(number).save(path)
    index.run(_params(data={"root": "in"}))
    report = json.loads(Path("reports/data.json").read_text())
    assert report["near_duplicates"]["clusters"] == 0
    line_drawing(8).save(project / "in/cat/copy.jpg", quality=60)
    index.run(_params(data={"root": "in"}))
    report = json.loads(Path("reports/data.json").read_text())
    assert report["near_duplicates"]["examples"] == [["cat/08.png", "cat/copy.jpg"]]
    assert "index: 2 images in 1 groups of near duplicates" in capsys.readouterr().out


def test_rows_of_a_parquet_file_that_cannot_be_used_are_listed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [path.read_bytes() for path in sorted(_folder(project / "in", 60).rglob("*.png"))]
    labels = [row // 30 for row in range(60)]
    contents[3], contents[4], contents[5] = None, b"text", contents[5][:-50]
    labels[6], labels[7] = -1, None
    file = write_hub_file(project / "hub/train.parquet", contents, labels, ("cat", "dog"))
    index.run(_params(data={"root": str(file)}))
    left_out = json.loads(Path("reports/data.json").read_text())["left_out"]
    assert [(row["path"], row["problem"]) for row in left_out] == [
        ("train.parquet/0000003", "empty: 0 bytes"),
        ("train.parquet/0000004", "not an image: no known format"),
        ("train.parquet/0000005", "truncated: the file ends before the image does"),
        (
            "train.parquet/0000006",
            "no label: the 2 classes that the file names have no number -1",
        ),
        ("train.parquet/0000007", "no label: the row has none"),
    ]
    assert "index: 55 images in 2 classes, 5 left out (1 empty, 2 no label," in (
        capsys.readouterr().out
    )
    table = pq.read_table("data/index.parquet")
    assert table["label"].null_count == 2
    split.run(_params())
    assert len(pq.read_table("data/split.parquet")) == 55


def test_a_parquet_file_without_any_label(project: Path) -> None:
    write_hub_file(project / "hub/test.parquet", [b"x"] * 3, [-1] * 3, ("cat", "dog"))
    with pytest.raises(PipelineError, match=r"^found no class, expected two or more; .* listed in"):
        index.run(_params(data={"root": "hub"}))
    assert len(json.loads(Path("reports/data.json").read_text())["left_out"]) == 3


def test_a_tree_of_links_is_used_like_the_files(project: Path) -> None:
    store = _folder(project / "store", 60)
    for path in sorted(store.rglob("*.png")):
        link = project / "in" / ("test", "train")[int(path.stem) % 4 > 0] / path.parent.name
        link.mkdir(parents=True, exist_ok=True)
        (link / path.name).symlink_to(path)
    expected = _rows_by_content(project / "in")
    assert len(expected) == 60
    assert sum(name == "test" for name, _, _ in expected.values()) == 15
    (project / "in/train/cat/gone.png").symlink_to("nowhere.png")
    (project / "in/train/dog/again").symlink_to("..")
    (project / "in/test/fox").symlink_to(project / "not mounted")
    assert _rows_by_content(project / "in") == expected
    report = json.loads(Path("reports/data.json").read_text())
    assert report["problems"] == {"broken link": 3}
    assert [row["path"] for row in report["left_out"]] == [
        "test/fox",
        "train/cat/gone.png",
        "train/dog/again",
    ]


def test_the_sample_is_not_made_for_other_images(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.run(_params(data={"root": "in"}))
    assert capsys.readouterr().out == "sample: not made, for data.root is in\n"
    assert [path.name for path in Path("data/sample").iterdir()] == ["SOURCE.md"]
    sample.run(_params(data={"root": "data/sample"}))
    assert len(list(Path("data/sample").rglob("*.png"))) > 500


def test_labels_that_differ_in_case_stop_the_index(project: Path) -> None:
    _folder(project / "in")
    (project / "in/Cat").mkdir()
    _picture(900).save(project / "in/Cat/1.png")
    with pytest.raises(PipelineError, match="the classes 'Cat' and 'cat' differ only in case"):
        index.run(_params(data={"root": "in"}))


def test_notes_beside_images_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(project / "in")
    (project / "in/cat/labels.csv").write_text("path,label\n")
    (project / "in/loose.png").touch()
    index.run(_params(data={"root": "in"}))
    assert capsys.readouterr().out.splitlines()[1] == (
        "index: ignored 2 files that lie beside the class folders or are no images: loose.png,"
        " cat/labels.csv"
    )


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
        files = sorted(_folder(folder.parent).rglob("*.png"))
        names = [file.relative_to(folder.parent).as_posix() for file in files]
        folder.write_text("path,label\n" + "".join(f"{n},{n[:3]}\n" for n in names))
    else:
        _folder(folder)
    params = _params(data={"root": root})
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
    _folder(project / "images")
    _copy_of(deep, monkeypatch)
    with pytest.raises(PipelineError, match=rf"leads out of the copy .*; write {project}/images"):
        sample.run(_params(data={"root": "../../../../images"}))


def test_the_home_is_found_and_dvc_is_given_the_whole_path(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    _folder(project / "home/images")
    params = _params(data={"root": "~/images"})
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
        sample.run(_params(data={"root": "imags"}))


def test_split_without_an_index() -> None:
    with pytest.raises(PipelineError, match=r"data/index\.parquet is missing; run dvc repro"):
        split.run(_params())


def test_split_with_a_damaged_index() -> None:
    Path("data").mkdir()
    Path("data/index.parquet").write_text("junk")
    with pytest.raises(
        PipelineError, match=r"data/index\.parquet is damaged \(.*\); delete it and"
    ):
        split.run(_params())


def test_sample_writes_a_torchvision_data_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.repeat([0, 1], 20)
    parts = [
        torchvision_data.Part("train", ("T-shirt/top", "Bag"), labels, _picture),
        torchvision_data.Part("test", ("T-shirt/top", "Bag"), labels[15:25], _picture),
    ]
    asked = []

    def fetch(name: str, downloads: Path) -> list[torchvision_data.Part]:
        asked.append((name, downloads))
        return parts

    monkeypatch.setattr(torchvision_data, "fetch", fetch)
    params = _params(sample={"source": "FashionMNIST", "imbalance_ratio": 10.0})
    sample.run(params)
    assert asked == [("FashionMNIST", Path(".convoy/downloads"))]
    assert capsys.readouterr().out == "sample: 32 images of FashionMNIST -> data/sample\n"
    counts = {
        f"{part}/{label}": len(list(Path("data/sample", part, label).iterdir()))
        for part in ("train", "test")
        for label in ("T-shirt_top", "Bag")
    }
    assert counts == {"train/T-shirt_top": 20, "train/Bag": 2, "test/T-shirt_top": 5, "test/Bag": 5}
    assert np.array_equal(Image.open("data/sample/test/Bag/000007.png"), _picture(7))
    assert "torchvision does not state" in Path("data/sample/SOURCE.md").read_text()
    assert sorted(p.name for p in Path("data/sample").iterdir()) == ["SOURCE.md", "test", "train"]


def test_the_three_stages_start_without_torch() -> None:
    code = (
        "import sys; from pipeline.stages import sample, index, split;"
        " sys.exit(', '.join({'torch', 'ray', 'mlflow', 'albumentations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
