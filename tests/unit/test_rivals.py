"""The benchmark against other libraries: its cuts, its budget, and its table."""

import numpy as np
import pytest

from tests.benchmarks.rivals import cut, run

SIZES = {"a": 40, "b": 100, "c": 61, "d": 80}


@pytest.fixture
def data(tmp_path):
    """Make a folder of class folders; each file holds its own name."""
    for name, count in SIZES.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "data" / name / f"{number}.jpg").write_text(f"{name} {number}")
    return tmp_path / "data"


def counts(found, split):
    return {name: len(parts[split]) for name, parts in found.items()}


VARIANTS = [{}, {"per_class": 7}, {"per_class": 30}, {"ratio": 1}, {"ratio": 20}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_cuts_have_the_same_test_set_and_no_file_twice(data, variant):
    classes = cut.read_classes(data)
    whole, found = cut.cut(classes), cut.cut(classes, **variant)
    for name, parts in found.items():
        assert parts["test"] == whole[name]["test"]
        files = [file for split in cut.SPLITS for file in parts[split]]
        assert len(set(files)) == len(files)
        assert set(files) <= set(classes[name])
        assert parts["val"]
        assert parts["train"]
    assert counts(found, "test") == {"a": 10, "b": 25, "c": 15, "d": 20}


def test_without_an_option_all_images_are_kept(data):
    found = cut.cut(cut.read_classes(data))
    assert counts(found, "train") == {"a": 26, "b": 64, "c": 39, "d": 51}
    assert counts(found, "val") == {"a": 4, "b": 11, "c": 7, "d": 9}


def test_so_many_of_each_class_are_kept(data):
    found = cut.cut(cut.read_classes(data), per_class=20)
    assert set(counts(found, "train").values()) == {17}
    assert set(counts(found, "val").values()) == {3}


def test_a_long_tail_is_geometric_from_the_largest_class_down(data):
    found = cut.cut(cut.read_classes(data), ratio=8)
    kept = {name: len(parts["train"]) + len(parts["val"]) for name, parts in found.items()}
    # 75, then by 1 / 2: b, d, c, a by size.
    assert kept == {"b": 75, "d": 38, "c": 19, "a": 9}


@pytest.mark.parametrize("variant", VARIANTS[1:3] + VARIANTS[4:])
def test_what_is_left_out_may_judge(data, variant):
    classes = cut.read_classes(data)
    by_test, found = cut.cut(classes, **variant), cut.cut(classes, **variant, left_out=True)
    for name, files in classes.items():
        assert found[name] | {"test": by_test[name]["test"]} == by_test[name]
        parts = [*found[name].values(), by_test[name]["test"]]
        assert sorted(file for part in parts for file in part) == files


def test_another_seed_draws_another_test_set(data):
    classes = cut.read_classes(data)
    assert cut.cut(classes, seed=1)["a"]["test"] != cut.cut(classes, seed=0)["a"]["test"]


def test_the_command_writes_what_was_drawn(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "cut"
    words = ["cut", str(data), str(out), "--per-class", "10", "--seed", "3"]
    monkeypatch.setattr("sys.argv", words)
    cut.main()
    drawn = cut.cut(cut.read_classes(data), per_class=10, seed=3)
    for name, parts in drawn.items():
        for split, files in parts.items():
            written = {file.name: file.read_text() for file in (out / split / name).iterdir()}
            assert written == {file.name: file.read_text() for file in files}
    with pytest.raises(SystemExit) as stopped:
        cut.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"cut: {out}: is not empty\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "the following arguments are required: data, out"),
        (["{data}", "{out}", "--per-class", "1"], "--per-class: got 1, need at least 2"),
        (["{data}", "{out}", "--per-class", "31"], "class a has 30 images beside the test"),
        (["{data}", "{out}", "--ratio", "0.5"], "--ratio: got 0.5, need at least 1"),
        (["{data}", "{out}", "--left-out"], "--left-out: all images are kept, give --per-class"),
        (["{data}/a", "{out}"], "expected two or more class folders, found 0"),
        (["{out}", "{out}"], "No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(data, tmp_path, monkeypatch, capsys, words, line):
    filled = [word.format(data=data, out=tmp_path / "out") for word in words]
    monkeypatch.setattr("sys.argv", ["cut", *filled])
    with pytest.raises(SystemExit) as stopped:
        cut.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("budget", "pace", "epochs"),
    [
        (60, {1: 10, 2: 15}, 11),
        (60, {1: 10, 2: 15, 8: 80}, 6),  # the longer run is believed
        (60, {1: 70, 2: 75}, 1),  # nothing fits
        (60, {1: 10, 2: 9}, 12),  # noise: 4.5 s an epoch, and 1 epoch is 10 s
        (60, {1: 10, 2: 10.01}, 32),  # noise: at most 16 times the longest
    ],
)
def test_epochs_fit_the_budget(budget, pace, epochs):
    assert run.fitting_epochs(budget, pace) == epochs


def test_a_run_that_misses_the_budget_is_followed_by_a_nearer_one():
    played = []

    def train(epochs):
        played.append(epochs)
        return {"epochs": epochs, "seconds": 5 + 2.0 * epochs}

    # The two short runs say 3 s an epoch, the long one 2 s.
    pace = {1: 7.0, 2: 10.0}
    assert run.nearest(train, 45, pace)["epochs"] == 20
    assert played == [14, 20]
    assert pace[14] == 33


def result(predictions, seconds=60.0):
    return {"seconds": seconds, "epochs": 3, "predictions": predictions}


def test_the_table_compares_on_the_same_images():
    truth = {f"{name}/{number}": name for name in "ab" for number in range(50)}
    other = {"a": "b", "b": "a"}
    wrong = list(truth)[::5]
    worse = truth | {image: other[truth[image]] for image in wrong}
    found = {"Convoy": [result(truth), result(worse)], "loop": [result(worse), result(worse)]}
    lines = run.table(found, truth).splitlines()
    assert lines[2].split("|")[1:6] == [" Convoy ", " 60 ", " 3, 3 ", " 0.900 ", " 0.900 "]
    cells = lines[3].split("|")
    assert cells[4:6] == [" 0.800 ", " 0.800 "]
    value, low, high = (float(word.strip("[],")) for word in cells[6].split())
    # Half the difference to one of the two: 20 of 100 are wrong, and errors are binomial.
    assert value == pytest.approx(-0.1)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.2 * 0.8 / 100) / 2, rel=0.15)


def test_images_that_a_contestant_left_out_are_counted():
    truth = {f"{name}/{number}": name for name in "ab" for number in range(5)}
    fewer = {image: label for image, label in truth.items() if image != "a/0"}
    said = run.table({"Convoy": [result(truth)], "loop": [result(fewer)]}, truth)
    assert "9 test images, 1 more were left out by a contestant. Seeds: 1." in said
    assert "+0.000 [+0.000, +0.000]" in said
