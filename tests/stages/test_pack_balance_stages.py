import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.balancing.augment import Augmenter
from pipeline.data.shards.shards import ImageSet, ShardWriter
from pipeline.data.sources.folder import FolderSource
from pipeline.errors import PipelineError
from pipeline.params import parse
from pipeline.params.choices.transforms import Policy
from pipeline.stages import balance, pack
from tests.images import params_with

IMAGES_PER_CLASS = {"circle": 20, "line": 6, "square": 2}


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Make a folder of images and its split table, and stand in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = []
    for label, count in IMAGES_PER_CLASS.items():
        for number in range(count + 2):
            path = Path("data/sample") / label / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (9, 12)).astype(np.uint8)).save(path)
            rows.append(
                {
                    "path": f"{label}/{number:02d}.png",
                    "label": label,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "bits": 8,
                    "split": {count: "val", count + 1: "test"}.get(number, "train"),
                }
            )
    rng.shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), "data/split.parquet")
    return rows


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.arrow")}


def test_some_deep_images_among_others_are_named(split, capsys):
    table = pa.Table.from_pylist(
        [dict(row, bits=16 if n == 3 else 8) for n, row in enumerate(split)]
    )
    pq.write_table(table, "data/split.parquet")
    pack.run(params_with())
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        f"pack: 1 of {len(split)} images have 16 bits ({split[3]['path']}), so all are packed with"
        " 16, which takes twice the memory; to pack all with 8, set pack.bit_depth to 8; to say"
        " that 16 is meant, set it to 16"
    )
    assert said[-1].endswith("uint16 -> data/packed")
    for depth in (8, 16):
        pack.run(params_with(pack={"bit_depth": depth}))
        assert len(capsys.readouterr().out.splitlines()) == 1


def test_pack_writes_each_split_sorted_by_path(split, capsys):
    pack.run(params_with())
    assert capsys.readouterr().out == (
        "pack: train 28, val 3, test 3 images of 28x28x1 uint8 -> data/packed\n"
    )
    for name in ("train", "val", "test"):
        packed = ImageSet.open(Path("data/packed") / name)
        expected = sorted((r["path"], r["sha256"]) for r in split if r["split"] == name)
        assert list(zip(packed.paths, packed.ids, strict=True)) == expected
        assert packed.info.classes == ("circle", "line", "square")
        labels = [packed.info.classes[label] for label in packed.labels]
        assert labels == [Path(path).parent.name for path in packed.paths]


def test_pack_again_writes_the_same_bytes_and_leaves_no_stale_shards(split):
    pack.run(params_with())
    first = files("data/packed")
    Path("data/packed/train/shard-00009.arrow").write_bytes(b"stale")
    pack.run(params_with())
    assert files("data/packed") == first
    assert [path.name for path in Path("data").iterdir() if path.name.startswith(".")] == []


def test_pack_takes_16_bits_when_any_source_has_them(split, capsys):
    table = pq.read_table("data/split.parquet").to_pylist()
    table[0]["bits"] = 16
    pq.write_table(pa.Table.from_pylist(table), "data/split.parquet")
    pack.run(params_with())
    assert "28x28x1 uint16" in capsys.readouterr().out
    assert ImageSet.open(Path("data/packed/val")).info.preprocessing.bit_depth == 16
    pack.run(params_with(pack={"bit_depth": 8, "channels": 3, "width": 20}))
    assert "28x20x3 uint8" in capsys.readouterr().out


def test_the_paths_of_a_manifest_are_relative_to_its_folder(split, capsys):
    Path("data/sample/list.csv").write_text("path,label\n")
    pack.run(params_with(data={"root": "data/sample/list.csv"}))
    assert capsys.readouterr().out.startswith("pack: train 28,")


def test_a_failed_pack_leaves_the_former_shards(split):
    pack.run(params_with())
    first = files("data/packed")
    Path("data/sample/line/01.png").write_bytes(b"changed")
    with pytest.raises(PipelineError, match=r"^data/sample/line/01\.png changed since"):
        pack.run(params_with(pack={"height": 20}))
    assert files("data/packed") == first


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"^data/split\.parquet is missing; run dvc repro"):
        pack.run(params_with())
    with pytest.raises(PipelineError, match=r"^no packed images in data/packed/train; run dvc"):
        balance.run(params_with())


def test_a_damaged_split_table_is_named(split):
    pq.write_table(pa.table({"path": ["a"], "label": ["b"]}), "data/split.parquet")
    with pytest.raises(
        PipelineError, match=r"split\.parquet lacks the columns sha256, bits, split;"
    ):
        pack.run(params_with())
    Path("data/split.parquet").write_text("junk")
    with pytest.raises(PipelineError, match=r"split\.parquet is damaged \(.*\); delete it and run"):
        pack.run(params_with())


def test_balance_tops_up_the_rare_classes(split, capsys):
    pack.run(params_with())
    capsys.readouterr()
    balance.run(params_with())
    assert capsys.readouterr().out == (
        "balance: 32 synthetic images; classes of 2 to 20 images become 20 to 20 -> data/balanced\n"
    )
    train = ImageSet.open(Path("data/packed/train"))
    both = ImageSet.open(Path("data/packed/train"), Path("data/balanced"))
    assert both.class_counts().tolist() == [20, 20, 20]
    made = ImageSet.open(Path("data/balanced"))
    assert set(made.parents) <= set(train.ids)
    report = json.loads(Path("reports/balance.json").read_text())
    assert report["synthetic_images"] == 32
    assert report["capped_classes"] == []
    assert report["classes"]["line"] == {"before": 6, "copies": 14, "after": 20, "target": 20}
    for name in ("histogram", "sheet"):
        with Image.open(f"reports/pictures/balance/{name}.png") as picture:
            assert min(picture.size) > 100


def test_balance_again_writes_the_same_bytes(split):
    pack.run(params_with())
    written = []
    for _ in range(2):
        balance.run(params_with())
        pictures = [path.read_bytes() for path in sorted(Path("reports").rglob("*.*"))]
        written.append((files("data/balanced"), pictures))
    assert written[0] == written[1]
    balance.run(params_with(balance={"seed": 1}))
    assert files("data/balanced") != written[0][0]


def test_balance_names_the_classes_that_the_cap_keeps_below_target(split, capsys):
    pack.run(params_with())
    balance.run(params_with(balance={"max_copies_per_image": 3}))
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == ("balance: max_copies_per_image 3 keeps below target: square (8 of 20)")
    report = json.loads(Path("reports/balance.json").read_text())
    assert report["capped_classes"] == ["square"]


def test_balance_with_nothing_to_do_writes_an_empty_set(split):
    pack.run(params_with())
    balance.run(params_with(balance={"max_copies_per_image": 0}))
    assert len(ImageSet.open(Path("data/balanced"))) == 0


def test_recipes_that_are_made_take_no_synthetic_images(split, capsys):
    pack.run(params_with())
    balance.run(params_with(recipe={"name": "auto"}))
    assert len(ImageSet.open(Path("data/balanced"))) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "balance: no synthetic images: recipe.name: auto takes none"
    report = json.loads(Path("reports/balance.json").read_text())
    assert report["synthetic_images"] == 0
    assert report["capped_classes"] == []


def test_an_unknown_class_with_a_policy_is_an_error(split):
    pack.run(params_with())
    message = re.escape(
        "balance.per_class: no class sqare in the data, did you mean square?"
        " (classes: circle, line, square)"
    )
    with pytest.raises(PipelineError, match=message):
        balance.run(params_with(balance={"per_class": {"sqare": ()}}))


def test_a_wrong_policy_of_one_class_is_found_before_any_work(split):
    pack.run(params_with())
    policy = parse(Policy, [{"ISONoise": {}}])
    message = r"^balance\.per_class\.circle\[0\]\.ISONoise: needs colour, "
    with pytest.raises(PipelineError, match=message):
        balance.run(params_with(balance={"per_class": {"circle": policy}}))
    assert not Path("data/balanced").exists()


@pytest.fixture
def reads(monkeypatch):
    """Count which images are read."""
    read, found = FolderSource.read, []

    def counted(self, path, max_pixels=None):
        found.append(path)
        return read(self, path, max_pixels)

    monkeypatch.setattr(FolderSource, "read", counted)
    return found


def made_by_full_runs(params):
    """Return what both stages write where nothing was kept."""
    kept = Path(".convoy").rename("aside")
    pack.run(params)
    balance.run(params)
    written = files("data/packed"), files("data/balanced")
    shutil.rmtree(".convoy")
    kept.rename(".convoy")
    return written


def count_made(monkeypatch):
    """Count the synthetic images that are made."""
    call, made = Augmenter.__call__, []

    def counted(self, *given):
        made.append(1)
        return call(self, *given)

    monkeypatch.setattr(Augmenter, "__call__", counted)
    return made


def test_only_new_images_are_decoded_and_only_new_copies_made(split, reads, monkeypatch):
    params = params_with()
    pack.run(params)
    balance.run(params)
    assert len(reads) == len(split)
    made = count_made(monkeypatch)
    # One image is new, one is gone, one has another label, one another name, one another split.
    new = Path("data/sample/line/new.png")
    Image.fromarray(np.arange(108, dtype=np.uint8).reshape(9, 12)).save(new)
    digest = hashlib.sha256(new.read_bytes()).hexdigest()
    rows = sorted(split, key=lambda row: row["path"])
    rows[0]["label"] = "line"
    Path("data/sample/circle/02.png").rename("data/sample/circle/renamed.png")
    rows[2]["path"] = "circle/renamed.png"
    rows[5]["split"] = "test"
    del rows[7]
    rows.append(
        {"path": "line/new.png", "label": "line", "sha256": digest, "bits": 8, "split": "train"}
    )
    pq.write_table(pa.Table.from_pylist(rows), "data/split.parquet")
    reads.clear()
    pack.run(params)
    assert reads == ["line/new.png"]
    balance.run(params)
    again = files("data/packed"), files("data/balanced")
    some_made = len(made)
    made.clear()
    assert again == made_by_full_runs(params)
    assert 0 < some_made < len(made) / 2


def test_another_preprocessing_reads_all_again(split, reads):
    pack.run(params_with())
    for changed in ({"height": 20}, {"bit_depth": 16}, {"resize": "pad"}):
        reads.clear()
        pack.run(params_with(pack=changed))
        assert len(reads) == len(split)
    reads.clear()
    pack.run(params_with(pack={"resize": "pad"}))
    assert reads == []


def test_packed_images_that_somebody_changed_are_not_taken(split, reads):
    pack.run(params_with())
    first = files("data/packed")
    with Path("data/packed/train/shard-00000.arrow").open("r+b") as file:
        file.seek(2000)
        file.write(b"somebody was here")
    reads.clear()
    pack.run(params_with())
    assert len(reads) == len(split)
    assert files("data/packed") == first


def test_a_run_that_is_killed_harms_no_later_one(split, reads, monkeypatch):
    pack.run(params_with())
    first = files("data/packed")
    stop = pytest.raises(KeyboardInterrupt)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, stop:  # between the shards and what is kept of them
        patch.setattr(pack, "keep", interrupt)
        pack.run(params_with(pack={"height": 20}))
    reads.clear()
    pack.run(params_with())
    assert reads == []
    with monkeypatch.context() as patch, stop:  # while they are linked
        patch.setattr(os, "link", interrupt)
        pack.run(params_with(pack={"height": 20}))
    pack.run(params_with())
    assert files("data/packed") == first


def test_other_pixels_of_the_parents_make_all_copies_again(split, monkeypatch):
    pack.run(params_with())
    balance.run(params_with())
    made = count_made(monkeypatch)
    balance.run(params_with())
    assert made == []
    # As if another version of a decoder had packed the same content.
    train = ImageSet.open(Path("data/packed/train"))
    shutil.rmtree("data/packed/train")
    with ShardWriter(Path("data/packed/train"), train.info, 256) as writer:
        pixels = train.gather(np.arange(len(train))) // 2
        writer.write(pixels, train.labels.tolist(), train.ids, train.parents, train.paths)
    balance.run(params_with())
    assert len(made) == len(ImageSet.open(Path("data/balanced"))) == 32


def test_another_policy_of_a_class_makes_its_copies_again(split, monkeypatch):
    pack.run(params_with())
    balance.run(params_with())
    made = count_made(monkeypatch)
    policy = parse(Policy, [{"HorizontalFlip": {"p": 1.0}}])
    balance.run(params_with(balance={"per_class": {"line": policy}}))
    assert len(made) == 14
