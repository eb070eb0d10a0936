import cv2
import numpy as np
import pytest

from pipeline.data.packing.geometry import fit_of
from pipeline.data.packing.preprocess import fit_pixels
from pipeline.data.shards.preprocessing import Preprocessing

SIZES = [(90, 60), (60, 90), (31, 31), (12, 20), (300, 17)]  # height, width


def marked(height, width, box):
    x, y, w, h = box
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[y : y + h, x : x + w] = 255
    return pixels


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_box_goes_where_preprocessing_takes_its_pixels(resize, height, width):
    to = Preprocessing(40, 48, 1, resize, 0, 8)
    box = (width // 3, height // 3, max(width // 4, 1), max(height // 4, 1))
    fit = fit_of(height, width, to)
    ((x, y, w, h),) = fit.to_array(np.array([box], float))
    prepared = fit_pixels(marked(height, width, box), to)[..., 0].astype(float) / 255
    # Where the edge of the box cuts a pixel, its level says how much of it is inside: sums over
    # lines are then widths, up to what interpolation spreads over an edge.
    assert prepared.sum() == pytest.approx(w * h, rel=0.12, abs=2)
    moments = cv2.moments(prepared)
    centre = moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5
    assert centre == pytest.approx((x + w / 2, y + h / 2), abs=0.35)
    if resize != "crop":  # which cuts off
        assert fit.to_image(np.array([[x, y, w, h]]))[0] == pytest.approx(box)


def test_what_is_cut_off_has_no_size_and_padding_is_no_part_of_the_image():
    crop = fit_of(40, 100, Preprocessing(40, 40, 1, "crop", 0, 8))
    assert not crop.to_array(np.array([[0.0, 0.0, 20.0, 40.0]]))[0, 2]
    pad = fit_of(40, 80, Preprocessing(40, 40, 1, "pad", 0, 8))
    assert pad.to_image(np.array([[0.0, 0.0, 40.0, 40.0]]))[0].tolist() == [0, 0, 80, 40]
