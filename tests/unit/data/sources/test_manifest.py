from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.manifest import ManifestSource
from pipeline.data.sources.source import IMAGES, Listing
from pipeline.errors import PipelineError
from tests.unit.data.sources.listings import columns_of, touch


def _scan(root: Path) -> Listing:
    return ManifestSource(root).list_images()


def _columns(root: Path, *names: str) -> list[tuple[object, ...]]:
    return columns_of(ManifestSource(root), *names)


def test_a_csv_with_columns_without_a_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,,\na.png,x,,\n")
    assert _columns(tmp_path / "list.csv", "path", "label") == [("a.png", "x")]


CSV = "path,label,split,group,extra\nimg/a.png,007,train,g1,x\n./img/b.png,8,,,\nc.png,8,valid,,\n"


def test_a_csv_manifest_keeps_labels_as_text(tmp_path: Path) -> None:
    touch(tmp_path, "img/a.png", "img/b.png")
    (tmp_path / "list.csv").write_text(CSV)
    assert ManifestSource(tmp_path / "list.csv").folder == tmp_path
    assert _columns(tmp_path / "list.csv", "path", "label", "split", "group", "obstacle") == [
        ("c.png", "8", "val", None, "unreadable: No such file or directory"),
        ("img/a.png", "007", "train", "g1", None),
        ("img/b.png", "8", None, None, None),
    ]


def test_a_parquet_manifest_may_hold_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    pq.write_table(pa.table({"path": ["a.png"], "label": [3]}), tmp_path / "list.parquet")
    assert _columns(tmp_path / "list.parquet", "path", "label") == [("a.png", "3")]


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.png", "a/../../b.png", "C:/a.png"])
def test_a_manifest_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\n{path},a\n")
    with pytest.raises(PipelineError, match=r"row 1: the path .* leaves the manifest's folder"):
        _scan(tmp_path / "list.csv")


def test_paths_may_lead_through_links(tmp_path: Path) -> None:
    touch(tmp_path, "outside/a.png", "b.png", "in/list.csv")
    (tmp_path / "in/door").symlink_to(tmp_path / "outside")
    (tmp_path / "in/b.png").symlink_to("../b.png")
    (tmp_path / "in/gone.png").symlink_to("nowhere.png")
    (tmp_path / "in/loop").symlink_to("loop")
    rows = "door/a.png,a\nb.png,b\ndoor,b\ngone.png,b\nloop/c.png,b\n"
    (tmp_path / "in/list.csv").write_text(f"path,label\n{rows}")
    assert _columns(tmp_path / "in/list.csv", "path", "obstacle") == [
        ("b.png", None),
        ("door", "a folder, not a file"),
        ("door/a.png", None),
        ("gone.png", "broken link: leads to nowhere.png: No such file or directory"),
        ("loop/c.png", "broken link: leads in a circle, to itself"),
    ]
    (tmp_path / "outside/a.png").write_bytes(b"through the door")
    assert ManifestSource(tmp_path / "in/list.csv").read("door/a.png") == b"through the door"


BOXES = "path,label,x,y,w,h\n"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_boxes_stand_beside_their_images(tmp_path: Path, kind: str) -> None:
    rows = {"path": ["b.png", "a.png"], "label": ["x", "y"]}
    boxes = {"x": [0, None], "y": [2.5, None], "w": [3, None], "h": [4, None]}
    if kind == "csv":
        (tmp_path / "m.csv").write_text(BOXES + "b.png,x,0,2.5,3,4\na.png,y,,,,\n")
    else:
        pq.write_table(pa.table(rows | boxes), tmp_path / "m.parquet")
    assert _columns(tmp_path / f"m.{kind}", "path", "row", "x", "y", "w", "h") == [
        ("a.png", 2, None, None, None, None),
        ("b.png", 1, 0.0, 2.5, 3.0, 4.0),
    ]


def test_without_boxes_there_are_no_columns_for_them(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(BOXES + "a.png,x,,,,\n")
    assert _scan(tmp_path / "m.csv").images.schema.equals(IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "file,label\na,b\n", r"no column path, found file, label; expected path,label"),
        ("m.csv", "path,label,label\na,b,c\n", "line 1: the column label is given twice; keep one"),
        (
            "m.csv",
            "path,label\na.png,x\nb\0.png,x\n",
            r"row 2: the path 'b\\x00\.png' holds a zero",
        ),
        ("m.csv", "path,label\n", "has no rows; list one image per row"),
        ("m.csv", "path,label\na.png,\n", "row 1: no label; fill it in"),
        ("m.csv", "path,label\n ,x\n", "row 1: no path; fill it in"),
        ("m.csv", "path,label\na.png,x\n./a.png,y\n", r"lists a\.png more than once"),
        ("m.csv", "path,label,split\na.png,x,dev\n", "row 1: split is dev, expected train, val"),
        ("m.csv", "path,label,x,y,w\na,b,1,1,1\n", "line 1: boxes take .* h is missing; add it"),
        ("m.csv", BOXES + "a,b,,,,\nc,d,1,1,wide,1\n", "row 2: w of the box is wide, expected"),
        ("m.csv", BOXES + "a,b,1,1,0,1\n", "w of the box is 0, expected a number of pixels above"),
        ("m.csv", BOXES + "a,b,1,-1,2,1\n", "row 1: y of the box is -1, expected a .* at least 0"),
        ("m.csv", BOXES + "a,b,1,1,2,nan\n", "row 1: h of the box is nan"),
        ("m.csv", BOXES + "a,b,1,,2,2\n", "row 1: y of the box is nothing, .* leave x,y,w,h empty"),
        ("m.csv", "path,label\na,b,c\n", "cannot read the manifest"),
        ("m.csv", "", "cannot read the manifest"),
        ("m.parquet", "nonsense", "cannot read the manifest"),
        ("m.xlsx", "nonsense", r"expected a folder or a \.csv or \.parquet manifest"),
    ],
)
def test_mistakes_in_a_manifest(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PipelineError, match=message):
        _scan(tmp_path / name)


def test_a_manifest_column_that_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"], "label": [[1]]}), tmp_path / "m.parquet")
    with pytest.raises(PipelineError, match=r"manifest column label holds list<.*>, expected text"):
        _scan(tmp_path / "m.parquet")
