import pyarrow as pa
import pytest

from pipeline.data.tables import INDEX
from pipeline.evaluation.retraining.changes import beyond, compare_images


def known(*rows):
    """Rows of path, label and content."""
    names = ("path", "label", "sha256")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def index(*rows):
    """Rows of path, label, content, problem and cluster; the last two may be left out."""
    filled = []
    for path, label, content, *rest in rows:
        problem, cluster = (*rest, None, None)[:2]
        cluster = cluster or (None if problem else content)
        row = {"path": path, "label": label, "sha256": content}
        filled.append({**dict.fromkeys(INDEX.names), **row, "problem": problem, "cluster": cluster})
    return pa.Table.from_pylist(filled, INDEX)


BEFORE = known(("a/1.png", "a", "1"), ("a/2.png", "a", "2"), ("b/3.png", "b", "3"))
SAME = [("a/1.png", "a", "1"), ("a/2.png", "a", "2"), ("b/3.png", "b", "3")]


def changes_of(*rows):
    return compare_images(BEFORE, index(*rows))[0]


def test_nothing_has_changed():
    found, rows = compare_images(BEFORE, index(*SAME))
    assert (found.images, found.known, found.altered, rows) == (3, 3, 0, [])
    assert found.classes == {"a": 2, "b": 1}
    assert not any(found.examples.values())


def test_new_images_and_a_new_class():
    found, rows = compare_images(BEFORE, index(*SAME, ("b/4.png", "b", "4"), ("c/5.png", "c", "5")))
    assert (found.new, found.new_classes, rows) == (2, ("c",), [3, 4])
    assert found.examples["new"] == ("b/4.png (b)", "c/5.png (c)")


def test_of_two_copies_of_a_new_image_one_counts():
    copies = ("b/4.png", "b", "4"), ("b/5.png", "b", "4", "copy of b/4.png")
    found, rows = compare_images(BEFORE, index(*SAME, *copies))
    assert (found.new, found.unusable, found.conflicting, rows) == (1, 0, 0, [3])


def test_vanished_images_and_a_vanished_class():
    found = changes_of(*SAME[:1])
    assert (found.vanished, found.vanished_classes) == (2, ("b",))
    assert found.examples["vanished"] == ("a/2.png (a)", "b/3.png (b)")


def test_an_image_with_another_name_has_moved():
    found = changes_of(("a/9.png", "a", "1"), *SAME[1:])
    assert (found.moved, found.new, found.vanished, found.altered) == (1, 0, 0, 0)
    assert found.examples["moved"] == ("a/1.png is a/9.png now",)


def test_a_copy_with_an_earlier_name_moves_nothing():
    found = changes_of(("a/0.png", "a", "1"), ("a/1.png", "a", "1", "copy of a/0.png"), *SAME[1:])
    assert (found.moved, found.new) == (0, 0)


def test_an_image_in_another_class_is_relabelled_and_not_new():
    found = changes_of(*SAME[:1], ("b/2.png", "b", "2"), SAME[2])
    assert (found.relabelled, found.new, found.moved, found.conflicting) == (1, 0, 0, 0)
    assert found.examples["relabelled"] == ("a/2.png (a) is b/2.png (b) now",)


def test_a_class_that_is_renamed_is_new_vanished_and_relabelled():
    found = changes_of(*SAME[:2], ("bee/3.png", "bee", "3"))
    assert (found.new_classes, found.vanished_classes, found.relabelled) == (("bee",), ("b",), 1)


def test_a_new_near_duplicate_under_another_label_conflicts():
    found = changes_of(
        *SAME[:2], ("b/3.png", "b", "3", None, "3"), ("a/7.png", "a", "7", None, "3")
    )
    assert (found.conflicting, found.new) == (1, 1)
    assert found.examples["conflicting"] == ("a/7.png (a) shows what b/3.png shows",)


def test_a_new_near_duplicate_under_the_same_label_does_not():
    found = changes_of(
        *SAME[:2], ("b/3.png", "b", "3", None, "3"), ("b/7.png", "b", "7", None, "3")
    )
    assert (found.conflicting, found.new) == (0, 1)


def test_known_near_duplicates_under_two_labels_are_no_news():
    found = changes_of(
        ("a/1.png", "a", "1"), ("a/2.png", "a", "2", None, "2"), ("b/3.png", "b", "3", None, "2")
    )
    assert found.conflicting == 0


def test_a_known_image_that_is_there_under_a_second_label_too_conflicts_once():
    problem = "same content under two labels: ..."
    found = changes_of(*SAME[:2], ("a/3.png", "a", "3", problem), ("b/3.png", "b", "3", problem))
    assert (found.conflicting, found.new, found.vanished, found.unusable) == (1, 0, 0, 0)
    assert found.examples["conflicting"] == ("a/3.png (a) shows what b/3.png shows",)


def test_new_files_that_cannot_be_used_are_counted():
    found, rows = compare_images(BEFORE, index(*SAME, ("b/x.png", "b", None, "not an image: x")))
    assert (found.unusable, found.new, rows) == (1, 0, [])
    assert found.examples["unusable"] == ("b/x.png (not an image: x)",)


def test_what_changed_since_a_person_agreed_is_counted():
    four, five = ("c/4.png", "c", "4"), ("c/5.png", "c", "5")
    offered = known(*SAME, four, five)
    assert beyond(offered, BEFORE, index(*SAME, four, five)) == 0
    assert beyond(offered, BEFORE, index(*SAME, four)) == 0  # a bad new one was taken away
    assert beyond(offered, BEFORE, index(*SAME, four, ("d/5.png", "d", "5"))) == 1
    assert beyond(offered, BEFORE, index(*SAME, four, ("c/6.png", "c", "6"))) == 1
    assert beyond(offered, BEFORE, index(*SAME[1:], four, five)) == 1  # a known one has gone
    # One that had gone when a person agreed, and has come back, is known; so is one repaired.
    assert beyond(known(*SAME[1:], four), BEFORE, index(*SAME, four)) == 0
    unusable = (*five[:3], "unreadable")
    assert beyond(known(*SAME), BEFORE, index(*SAME, unusable)) == 0


@pytest.mark.parametrize("count", [21, 500])
def test_examples_are_few(count):
    found = changes_of(*SAME, *((f"a/n{i:03}.png", "a", f"n{i}") for i in range(count)))
    assert found.new == count
    assert len(found.examples["new"]) == 20
