"""Pixels of images in pictures, and which value is white."""

from typing import Any

import numpy as np
import numpy.typing as npt

# height x width x channels, uint8 or uint16.
Image = npt.NDArray[Any]


def white_of(image: Image) -> int:
    """Return 255; of 16 bits, 2^b - 1 for the least b that holds all values.

    Heights in millimetres, which use few of 16 bits, would all be black otherwise.
    """
    return 255 if image.dtype == np.uint8 else 2 ** max(int(image.max()).bit_length(), 1) - 1


def eight_bits(image: Image) -> npt.NDArray[np.uint8]:
    """Bring uint8 or uint16 of any shape to uint8, from black to white."""
    if image.dtype == np.uint8:
        return image
    return np.rint(image * (np.float32(255) / white_of(image))).astype(np.uint8)
