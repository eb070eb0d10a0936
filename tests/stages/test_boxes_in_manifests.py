"""Boxes of a manifest on their way through index and split, which change for nobody else."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.data.tables import BOX, INDEX, SPLIT
from pipeline.errors import PipelineError
from pipeline.stages import index, split
from tests.images import params_with, write_folder

pytestmark = pytest.mark.usefixtures("project")


def _write(project: Path, boxes: dict[int, str], header: str = "path,label,x,y,w,h") -> Path:
    """Write a manifest of thirty images of 20 x 20 px, some of which have a box."""
    if not (project / "in").exists():
        write_folder(project / "in")
    paths = sorted((project / "in").rglob("*.png"))
    empty = "," * header.count(",")
    rows = [
        f"{path.relative_to(project / 'in')},{path.parent.name}"
        + (f",{boxes[number]}" if number in boxes else empty[1:])
        for number, path in enumerate(paths)
    ]
    manifest = project / "in" / "list.csv"
    manifest.write_text("\n".join([header, *rows]) + "\n")
    return manifest


def test_boxes_reach_the_split_and_no_image_is_measured_again(project: Path) -> None:
    plain = params_with(data={"root": str(_write(project, {}, "path,label"))})
    index.run(plain)
    split.run(plain)
    assert pq.read_schema("data/index.parquet").names == INDEX.names
    assert pq.read_schema("data/split.parquet").names == SPLIT.names
    before = Path("data/index.parquet").read_bytes(), pq.read_table("data/split.parquet")
    (cache,) = Path(".convoy/index").iterdir()
    measured = cache.stat().st_mtime_ns
    params = params_with(data={"root": str(_write(project, {0: "0,1,20,19", 3: "2.5,3,4,5"}))})
    index.run(params)
    split.run(params)
    assert cache.stat().st_mtime_ns == measured
    table = pq.read_table("data/split.parquet")
    assert table.select(SPLIT.names).equals(before[1])
    boxes = {row["path"]: [row[name] for name in BOX.names] for row in table.to_pylist()}
    assert boxes.pop("cat/00.png") == [0, 1, 20, 19]
    assert boxes.pop("cat/06.png") == [2.5, 3, 4, 5]
    assert {tuple(box) for box in boxes.values()} == {(None,) * 4}
    # Columns without a box are as good as none.
    _write(project, {})
    index.run(params)
    split.run(params)
    assert Path("data/index.parquet").read_bytes() == before[0]
    assert pq.read_schema("data/split.parquet").names == SPLIT.names


@pytest.mark.parametrize("box", ["15,0,6,5", "0,19,3,1.5"])
def test_a_box_beyond_its_image_is_named_with_its_row(project: Path, box: str) -> None:
    manifest = _write(project, {3: box})
    params = params_with(data={"root": str(manifest)})
    x, y, w, h = box.split(",")
    message = (
        rf"list\.csv row 4: the box x {x}, y {y}, w {w}, h {h} reaches beyond cat/06\.png, which"
        r" has 20 x 20 px"
    )
    with pytest.raises(PipelineError, match=message):
        index.run(params)
