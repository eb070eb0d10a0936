import hashlib
from collections import Counter

import numpy as np
import pytest

from pipeline.data.balancing.balance import (
    Policies,
    class_targets,
    copy_ids,
    plan_copies,
    spread_copies,
    write_balanced,
)
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter
from pipeline.params import parse
from pipeline.params.choices.transforms import Policy

INFO = SetInfo(("a", "b", "c"), Preprocessing(6, 6, 1, "stretch", 0, 8), "uint8")
POLICIES = Policies(
    default=parse(
        Policy, [{"Affine": {"rotate": [-30, 30], "p": 1.0}}, {"Superimpose": {"p": 0.5}}]
    ),
    per_class={"c": parse(Policy, [{"GaussNoise": {"p": 1.0}}])},
)


def targets(counts, target, ratio=0.5, beta=0.9):
    return class_targets(np.array(counts), target, ratio, beta).tolist()


def write_train(folder, labels, order=None):
    """Write one image per label, whose id depends on its place before it is reordered."""
    order = range(len(labels)) if order is None else order
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), *INFO.shape)).astype(np.uint8)
    ids = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    with ShardWriter(folder, INFO, 256) as writer:
        writer.write(
            images[list(order)],
            [labels[i] for i in order],
            [ids[i] for i in order],
            [None] * len(labels),
            [f"{i}.png" for i in order],
        )
    return ImageSet.open(folder)


def test_max_tops_up_to_the_largest_class():
    assert targets([10, 3, 7], "max") == [10, 10, 10]


def test_median_leaves_the_larger_half_alone():
    assert targets([10, 3, 7], "median") == [10, 7, 7]
    assert targets([10, 3, 8, 6], "median") == [10, 7, 8, 7]
    assert targets([10, 3], "median") == [10, 7]  # 6.5, up


def test_ratio_is_of_the_largest_class():
    assert targets([10, 1, 7], "ratio", ratio=0.3) == [10, 3, 7]
    assert targets([11, 1], "ratio", ratio=0.3) == [11, 4]  # 3.3, up


def test_effective_number_by_hand():
    # beta = 0.5: E(1) = 1, E(2) = 1.5, E(4) = 1.875; n E(4) / E(n) = 1.875, 2.5, 4.
    assert targets([4, 2, 1], "effective", beta=0.5) == [4, 3, 2]
    counts = np.array([500, 60, 7])
    worth = np.array([sum(0.99**j for j in range(n)) for n in counts])  # E(n) as a sum
    expected = np.ceil(counts * worth[0] / worth).astype(int)
    assert targets(counts, "effective", beta=0.99) == expected.tolist()


def test_effective_number_spans_from_nothing_to_max():
    assert targets([100, 30, 2], "effective", beta=0.0) == [100, 30, 2]
    assert targets([100, 30, 2], "effective", beta=1 - 1e-9) == [100, 100, 100]


@pytest.mark.parametrize("target", ["max", "median", "ratio", "effective"])
def test_a_class_without_images_gets_none(target):
    assert targets([5, 0, 2], target)[1] == 0
    assert targets([0, 0], target) == [0, 0]
    assert targets([], target) == []


def test_the_cap_holds():
    counts = np.array([10, 3, 1, 0])
    copies = plan_copies(counts, np.array([10, 10, 10, 0]), max_copies_per_image=2)
    assert copies.tolist() == [0, 6, 2, 0]
    assert not plan_copies(counts, np.array([10, 10, 10, 0]), max_copies_per_image=0).any()


def test_copies_are_spread_evenly_over_the_parents_of_the_class(tmp_path):
    labels = [0] * 10 + [1] * 4 + [2]
    train = write_train(tmp_path, labels)
    copies = spread_copies(train, np.array([0, 10, 3]), seed=0)
    assert Counter(labels[copy.parent] for copy in copies) == {1: 10, 2: 3}
    per_parent = Counter(copy.parent for copy in copies)
    assert sorted(per_parent.values()) == [2, 2, 3, 3, 3]
    for parent, made in per_parent.items():
        numbers = [copy.number for copy in copies if copy.parent == parent]
        assert numbers == list(range(1, made + 1))
    assert copies == sorted(copies)
    for copy in copies:
        assert labels[copy.partner] == labels[copy.parent]
        assert copy.partner != copy.parent or labels[copy.parent] == 2  # alone in its class
        assert 0 <= copy.seed < 2**32
    assert len({copy.seed for copy in copies}) == len(copies)


def test_the_plan_depends_on_content_not_on_order(tmp_path):
    labels = [0] * 5 + [1] * 7

    def by_content(train, seed):
        copies = spread_copies(train, np.array([8, 3]), seed)
        return {(train.ids[c.parent], c.number, train.ids[c.partner], c.seed) for c in copies}

    one = write_train(tmp_path / "one", labels)
    two = write_train(tmp_path / "two", labels, order=np.random.default_rng(3).permutation(12))
    assert by_content(one, 0) == by_content(two, 0)
    assert by_content(one, 0) != by_content(one, 1)


def digest(seed, name, number):
    return hashlib.sha256(f"{seed}:{name}:{number}".encode()).digest()


def test_partners_are_the_next_on_a_ring_of_hashes(tmp_path):
    train = write_train(tmp_path, [0] * 9 + [1] * 7)
    for copy in spread_copies(train, np.array([0, 30]), seed=5):
        ring = sorted(train.ids[9:], key=lambda name: digest(5, name, 0))
        parent, partner = train.ids[copy.parent], train.ids[copy.partner]
        drawn = digest(5, parent, copy.number)
        behind = [name for name in ring if digest(5, name, 0)[:8] >= drawn[:8]]
        assert partner == next(name for name in (*behind, *ring) if name != parent)
        assert copy.seed == int.from_bytes(drawn[8:12], "big")
        assert copy.number <= 4 + (ring.index(parent) < 2)  # 30 = 4 x 7 + 2


def test_few_copies_change_when_the_set_grows(tmp_path):
    def ids(labels, copies):
        train = write_train(tmp_path / str(len(labels)), labels)
        policies = Policies(POLICIES.default, {})
        return set(copy_ids(train, spread_copies(train, np.array(copies), 0), policies))

    few = ids([0] * 500 + [1] * 400, [0, 800])
    more = ids([0] * 500 + [1] * 404, [0, 808])
    # 8 copies of the new images, and those of the others whose partner is a new image now.
    assert 8 <= len(more - few) <= 8 + 30


def test_the_id_of_a_copy_says_what_its_pixels_depend_on(tmp_path):
    train = write_train(tmp_path / "train", [0] * 4 + [2] * 3)
    copies = spread_copies(train, np.array([4, 0, 3]), seed=0)
    ids = copy_ids(train, copies, POLICIES)
    assert len(set(ids)) == 7

    def changed(copies=copies, policies=POLICIES, train=train):
        found = copy_ids(train, copies, policies)
        return [row for row in range(7) if found[row] != ids[row]]

    assert changed([copy._replace(seed=copy.seed + 1) for copy in copies]) == [*range(7)]
    assert changed([copy._replace(number=9) for copy in copies]) == [*range(7)]
    # Class a has a policy with partners, class c one without.
    assert changed([copy._replace(partner=copy.parent) for copy in copies]) == [*range(4)]
    assert changed(policies=Policies(POLICIES.default, {})) == [4, 5, 6]


def test_synthetic_rows_name_their_parents_in_train(tmp_path):
    train = write_train(tmp_path / "train", [0] * 6 + [1] * 2 + [2])
    copies = spread_copies(train, np.array([0, 4, 5]), seed=0)
    write_balanced(tmp_path / "train", copies, POLICIES, tmp_path / "out", workers=1)
    made = ImageSet.open(tmp_path / "out")
    assert made.info == train.info
    assert made.class_counts().tolist() == [0, 4, 5]
    by_id = {content: row for row, content in enumerate(train.ids)}
    for row, copy in enumerate(copies):
        parent = by_id[made.parents[row]]
        assert parent == copy.parent
        assert made.labels[row] == train.labels[parent]
        assert made.paths[row] == train.paths[parent]
    assert made.ids == copy_ids(train, copies, POLICIES)
    assert len({*made.ids, *train.ids}) == 9 + 9
    pixels = made.gather(np.arange(9))
    assert len({image.tobytes() for image in pixels}) == 9


def test_an_image_is_the_same_whatever_else_is_made(tmp_path):
    train = write_train(tmp_path / "train", [0] * 6 + [1] * 2 + [2])
    copies = spread_copies(train, np.array([0, 4, 5]), seed=0)
    write_balanced(tmp_path / "train", copies, POLICIES, tmp_path / "all", workers=1)
    write_balanced(tmp_path / "train", copies[5:6], POLICIES, tmp_path / "one", workers=1)
    everything, alone = ImageSet.open(tmp_path / "all"), ImageSet.open(tmp_path / "one")
    assert (everything.gather(np.array([5])) == alone.gather(np.array([0]))).all()


def test_one_and_two_processes_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(SetInfo, "rows_per_batch", 5)
    train = write_train(tmp_path / "train", [0] * 6 + [1] * 2 + [2])
    copies = spread_copies(train, np.array([0, 9, 9]), seed=0)
    written = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        write_balanced(tmp_path / "train", copies, POLICIES, folder, workers=workers)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


def test_no_copies_make_an_empty_set(tmp_path):
    write_train(tmp_path / "train", [0, 1, 2])
    write_balanced(tmp_path / "train", [], POLICIES, tmp_path / "out")
    assert len(ImageSet.open(tmp_path / "out")) == 0


def test_a_class_may_have_its_own_policy(tmp_path):
    train = write_train(tmp_path / "train", [0, 1, 2])
    never, always = (parse(Policy, [{"HorizontalFlip": {"p": p}}]) for p in (0.0, 1.0))
    quiet = Policies(never, {"b": always})
    copies = spread_copies(train, np.array([1, 1, 1]), seed=0)
    write_balanced(tmp_path / "train", copies, quiet, tmp_path / "out")
    originals, made = (x.gather(np.arange(3)) for x in (train, ImageSet.open(tmp_path / "out")))
    assert (made[[0, 2]] == originals[[0, 2]]).all()
    assert (made[1] == originals[1, :, ::-1]).all()
