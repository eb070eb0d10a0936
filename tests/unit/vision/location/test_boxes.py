import numpy as np
from scipy import ndimage

from pipeline.vision.location.boxes import boxes_of, enlarged, peak


def test_a_map_is_interpolated_between_the_middles_of_its_places():
    found = np.array([[0.0, 4.0], [-9.0, 8.0]], np.float32)
    heights = enlarged(found, 4, 8)
    # Middles of the 2 x 2 places in 4 x 8 px: rows 0.5 and 2.5, columns 1.5 and 5.5.
    assert heights.shape == (4, 8)
    assert heights[0, 0] == 0.0
    assert heights[0, 7] == 4.0
    assert heights[3, 7] == 8.0
    assert heights[0, 3] == 4.0 * (3 - 1.5) / 4
    assert heights.min() == 0.0  # what speaks against is none


def test_places_lie_where_their_receptive_fields_do():
    found = np.array([[0.0, 4.0, 8.0]], np.float32)
    # Middles at columns 1.5, 5.5 and 9.5; all places see the same rows.
    heights = enlarged(found, 2, 16, ((1.0, 0.0), (1.5, 4.0)))
    expected = np.interp(np.arange(16) + 0.5, [1.5, 5.5, 9.5], [0.0, 4.0, 8.0])
    assert np.allclose(heights, [expected, expected])


def test_boxes_surround_the_largest_connected_part():
    rng = np.random.default_rng(0)
    heights = enlarged(rng.normal(size=(7, 9)).astype(np.float32), 40, 60)
    thresholds = (0.1, 0.3, 0.5, 0.8, 1.0)
    for threshold, box in zip(thresholds, boxes_of(heights, thresholds), strict=True):
        parts, count = ndimage.label(heights >= threshold * heights.max(), np.ones((3, 3)))
        sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
        rows, columns = ndimage.find_objects(parts)[int(np.argmax(sizes))]
        expected = [columns.start, rows.start, columns.stop, rows.stop]
        assert [box[0], box[1], box[0] + box[2], box[1] + box[3]] == expected


def test_a_map_that_speaks_for_nothing_has_no_box():
    assert not boxes_of(np.zeros((5, 5), np.float32), (0.2, 0.9)).any()


def test_the_peak_is_the_middle_of_the_highest_pixel():
    heights = np.zeros((4, 9), np.float32)
    heights[2, 7] = 1.0
    assert peak(heights) == (7.5, 2.5)
