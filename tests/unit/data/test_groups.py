import time

import numpy as np
import pytest

from pipeline.data.groups import crossing, find_hint, groups_from
from pipeline.errors import PipelineError

PATTERN = r"(\d{8})_"


def test_the_first_group_or_else_the_whole_match_names_the_group() -> None:
    paths = ["a/00000013_001.png", "b/00000013_002.png", "b/x.png", "a/00000014_001.png"]
    assert groups_from(PATTERN, paths) == ["00000013", "00000013", None, "00000014"]
    assert groups_from(r"\d{8}_", paths)[0] == "00000013_"
    assert groups_from(r"(\d{9})?_", paths)[0] is None
    assert groups_from(r"^([^/]+)/", ["film/1.png"]) == ["film"]


def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.groups._SECONDS", 0.3)
    started = time.perf_counter()
    with pytest.raises(
        PipelineError, match=r"group_from: the pattern \(a\+\)\+b takes longer than"
    ):
        groups_from("(a+)+b", ["a" * 60])
    assert time.perf_counter() - started < 5


def _images(*names: str) -> tuple[list[str], list[str], list[None]]:
    """Put names into two class folders in turn."""
    paths = sorted(f"{'ab'[number % 2]}/{name}" for number, name in enumerate(names))
    return paths, [path[0] for path in paths], [None] * len(paths)


RNG = np.random.default_rng(0)
PATIENTS = [(patient, visit) for patient in range(40) for visit in range(patient % 4 + 1)]
DIGITS = [f"{number:032x}" for number in RNG.integers(0, 2**62, 200).tolist()]
HEX = [f"{number:016x}" for number in RNG.integers(2**58, 2**62, 300).tolist()]


@pytest.mark.parametrize(
    "names",
    [
        [f"{patient:08d}_{visit:03d}.png" for patient, visit in PATIENTS],
        [f"person{patient}_bacteria_{visit}.jpeg" for patient, visit in PATIENTS],
        [f"IM-{patient:04d}-{visit:04d}.jpeg" for patient, visit in PATIENTS],
        [f"study1_patient{patient:05d}_view{visit}.png" for patient, visit in PATIENTS],
        [f"film {patient} frame {visit}.png" for patient, visit in PATIENTS],
        [f"patient{patient}/{visit}.png" for patient, visit in PATIENTS],
        [f"{patient:04d}{'abcd'[visit]}.tif" for patient, visit in PATIENTS],
    ],
)
def test_names_that_suggest_groups(names: list[str]) -> None:
    # All images of a patient in one class, as with diagnoses.
    paths = [f"{'ab'[p % 2]}/{name}" for (p, _), name in zip(PATIENTS, names, strict=True)]
    hint = find_hint(paths, [path[0] for path in paths], [None] * len(paths))
    assert hint is not None
    found = groups_from(hint.pattern, paths)
    same = {(p, g) for (p, _), g in zip(PATIENTS, found, strict=True)}
    assert len(same) == len({g for _, g in same}) == 40
    assert (hint.groups, hint.images) == (30, 90)
    assert len(set(groups_from(hint.pattern, hint.example))) == 1


@pytest.mark.parametrize(
    "names",
    [
        [f"IMG_{n:04d}.JPG" for n in range(200)],
        [f"{n:05d}.png" for n in range(200)],
        [f"{n // 2:05d}.png" for n in range(200)],  # each class counts for itself
        [f"{n}.jpg" for n in range(200)],
        [f"cat.{n}.jpg" for n in range(200)],
        [f"img_{n}_of_200.jpg" for n in range(200)],
        [f"image ({n}).jpg" for n in range(200)],
        [f"frog_s_{n:06d}.png" for n in range(200)],  # as CIFAR-10 calls its images
        [f"{'ab'[n % 2]}_{n:05d}.png" for n in range(200)],
        [f"n{n % 2:08d}_{n}.JPEG" for n in range(200)],  # as ImageNet does: a number for the class
        [f"batch{n % 5}_{n:05d}.png" for n in range(200)],
        [f"IMG_202401{n % 28 + 1:02d}_{n:06d}.jpg" for n in range(200)],  # the day of a photograph
        [f"{name}.png" for name in HEX],
        [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}.png" for h in DIGITS],
        [f"{name[:7]}_{name[8:]}_n.jpg" for name in HEX],
        [f"Screenshot {n}.png" for n in range(200)],
        ["a.png", "b.png"],
        [],
    ],
)
def test_ordinary_names_suggest_nothing(names: list[str]) -> None:
    assert find_hint(*_images(*names)) is None


def test_folders_of_classes_and_splits_are_no_groups() -> None:
    paths = [
        f"{s}/{c:02d}/{n:04d}.jpg" for s in ("train", "test") for c in range(12) for n in range(9)
    ]
    splits = [path.split("/")[0] for path in paths]
    assert find_hint(paths, [path.split("/")[1] for path in paths], splits) is None
    shared = [f"images/{n:05d}.jpg" for n in range(300)]
    assert find_hint(shared, ["ab"[n % 2] for n in range(300)], [None] * 300) is None


def test_test_images_that_share_a_group_with_others_are_counted() -> None:
    groups = ["x", "x", "y", "y", None, None]
    splits = ["train", "test", "test", "test", "test", "val"]
    assert crossing(groups, splits) == (4, 1)
