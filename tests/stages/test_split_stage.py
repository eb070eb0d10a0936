"""split: groups, patterns, given splits."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.stages import index, split
from tests.hub import write_hub_file
from tests.images import noise, params_with, write_folder
from tests.pictures import xray

pytestmark = pytest.mark.usefixtures("project")


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


def test_a_manifest_with_groups_reaches_the_split(project: Path) -> None:
    write_folder(project / "in", 40)
    rows = [f"{'cat' if n % 2 == 0 else 'dog'}/{n:02d}.png" for n in range(40)]
    lines = [f"{path},{path[:3]},patient{n // 4}" for n, path in enumerate(rows)]
    (project / "in/list.csv").write_text("path,label,group\n" + "\n".join(lines) + "\n")
    params = params_with(data={"root": "in/list.csv"})
    index.run(params)
    split.run(params)
    table = pq.read_table("data/split.parquet").to_pylist()
    assert len(table) == 40
    for patient in range(10):
        assert len({row["split"] for row in table if row["group"] == f"patient{patient}"}) == 1


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
    index.run(params_with(data=data))
    if kind != "parquet":
        split.run(params_with(data=data))
        said = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(
            r"split: hint: \d+ of \d+ test images may show what train or val show too, by names"
            r" such as \w+/(\d{8})_\d+.png and \w+/\1_\d+.png; if such images belong together,"
            r" set split\.group_from: '.*'",
            said,
        )
        own = said.rpartition("group_from: ")[2].strip("'")
        assert json.loads(Path("reports/data.json").read_text())["group_hint"]["pattern"] == own
        assert len(_patients(params_with(split={"group_from": own}), PATTERN)) == 60
        capsys.readouterr()
    assert len(_patients(params_with(split={"group_from": pattern}), pattern)) == 60
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
    index.run(params_with(data={"root": "in/list.csv"}))
    split.run(params_with(split={"group_from": PATTERN}))
    for row in pq.read_table("data/split.parquet").to_pylist():
        number = re.findall(PATTERN, row["path"])[0]
        assert row["group"] == ("film" if number.endswith("0") else number)


def test_a_pattern_that_no_path_matches_stops_the_split(project: Path) -> None:
    index.run(params_with(data={"root": str(write_folder(project / "in"))}))
    message = r"the pattern patient is found in no path, such as cat/00\.png; repair it, or set it"
    with pytest.raises(PipelineError, match=message):
        split.run(params_with(split={"group_from": "patient"}))


def test_given_splits_with_copies_stop_then_drop(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, part in enumerate(("train", "val", "test")):
        for label in ("cat", "dog"):
            for copy in range(4):
                path = project / "in" / part / label / f"{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise(1000 * number + 10 * copy + len(label + part) + (label == "cat")).save(path)
    photo = noise(7).resize((64, 64), Image.Resampling.BICUBIC)
    photo.save(project / "in/test/cat/photo.png")
    photo.resize((50, 50)).save(project / "in/train/cat/photo.jpg", quality=60)
    root = {"root": "in"}
    index.run(params_with(data=root))
    with pytest.raises(PipelineError, match=r"1 picture or group lies .*test/cat/photo\.png and"):
        split.run(params_with(data=root))
    capsys.readouterr()
    split.run(params_with(data=root, split={"across_given_splits": "drop"}))
    assert capsys.readouterr().out == (
        "split: 8 train, 8 val, 9 test, 1 dropped as copies of test or val images ->"
        " data/split.parquet\n"
    )


def _found() -> dict[str, str]:
    table = pq.read_table("data/split.parquet")
    return dict(zip(*(table[name].to_pylist() for name in ("sha256", "split")), strict=True))


def _grown(project: Path) -> tuple[dict[str, str], bytes]:
    """Split 60 images, add near duplicates of 12 of them, and split again."""
    root = write_folder(project / "in", 60)
    for number in range(24):
        noise(number).resize((64, 64), Image.Resampling.BICUBIC).save(root / f"cat/n{number}.png")
    index.run(params_with(data={"root": "in"}))
    split.run(params_with())
    before = _found()
    for number in range(12):
        photo = noise(number).resize((64, 64), Image.Resampling.BICUBIC)
        photo.save(root / f"cat/n{number}.jpg", quality=90)
    index.run(params_with(data={"root": "in"}))
    split.run(params_with())
    after = _found()
    assert len(after) == len(before) + 12
    assert {content: after[content] for content in before} == before
    return before, Path("data/split.parquet").read_bytes()


def test_no_image_moves_when_near_duplicates_are_added(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, table = _grown(project)
    assert "another split" not in capsys.readouterr().out
    placed = Path("data/placed.json").read_bytes()
    exceptions = json.loads(placed)["placed"]
    assert exceptions  # some of the new ones have a smaller hash that draws another split
    # The exceptions alone give the same table: in a new clone, or where the table is damaged.
    for damage in (Path.unlink, lambda file: file.write_bytes(b"junk")):
        damage(Path("data/split.parquet"))
        split.run(params_with())
        assert Path("data/split.parquet").read_bytes() == table
        assert Path("data/placed.json").read_bytes() == placed
    # The table alone does too.
    Path("data/placed.json").unlink()
    split.run(params_with())
    assert Path("data/split.parquet").read_bytes() == table
    assert Path("data/placed.json").read_bytes() == placed


def test_another_question_draws_all_again(project: Path) -> None:
    _grown(project)
    for asked in ({"seed": 1}, {"val": 0.3}, {"test": 0.1}, {"group_from": r"(\d+)\."}):
        split.run(params_with(split=asked))
        kept, placed = _found(), Path("data/placed.json").read_bytes()
        for name in ("data/split.parquet", "data/placed.json"):
            Path(name).unlink()
        split.run(params_with(split=asked))
        assert _found() == kept
        assert Path("data/placed.json").read_bytes() == placed


def test_images_that_have_to_move_are_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(project / "in", 40)
    index.run(params_with(data={"root": "in"}))
    rows = [f"cat/{n:02d}.png,cat,\n" for n in range(0, 40, 2)]
    rows += [f"dog/{n:02d}.png,dog,\n" for n in range(1, 40, 2)]
    listed = project / "in/list.csv"
    listed.write_text("path,label,group\n" + "".join(rows[1:]))
    index.run(params_with(data={"root": "in/list.csv"}))
    split.run(params_with())
    table = pq.read_table("data/split.parquet").to_pylist()
    tested = next(row["path"] for row in table if row["split"] == "test")
    trained = next(row["path"] for row in table if row["split"] == "train")
    linked = [
        row.replace(",\n", ",one\n") if row.split(",")[0] in (tested, trained) else row
        for row in rows
    ]
    listed.write_text("path,label,group\n" + "".join(linked))
    index.run(params_with(data={"root": "in/list.csv"}))
    capsys.readouterr()
    split.run(params_with())
    assert capsys.readouterr().out.splitlines()[1] == (
        "split: moved to another split, since new or missing images left no choice: " + tested
    )
    splits = {row["path"]: row["split"] for row in pq.read_table("data/split.parquet").to_pylist()}
    assert splits[tested] == splits[trained] == "train"


@pytest.mark.parametrize(
    "text", ["", "<<<<<<< HEAD", "[]", "{}", '{"question": {}, "placed": {"a": "tset"}}']
)
def test_damaged_placements_are_taken_back_from_git(project: Path, text: str) -> None:
    index.run(params_with(data={"root": str(write_folder(project / "in"))}))
    Path("data/placed.json").write_text(text)
    with pytest.raises(
        PipelineError, match=r"^data/placed\.json is damaged \(.*git checkout data/p"
    ):
        split.run(params_with())


def test_split_without_an_index() -> None:
    with pytest.raises(PipelineError, match=r"data/index\.parquet is missing; run dvc repro"):
        split.run(params_with())


def test_split_with_a_damaged_index() -> None:
    Path("data").mkdir()
    Path("data/index.parquet").write_text("junk")
    with pytest.raises(
        PipelineError, match=r"data/index\.parquet is damaged \(.*\); delete it and"
    ):
        split.run(params_with())
