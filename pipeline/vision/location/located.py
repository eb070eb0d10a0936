"""Where an image, or a larger one than the network was trained on, shows a class."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from pipeline.data.packing.geometry import fit_of
from pipeline.data.packing.preprocess import fit_pixels
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.vision.anatomy.fully_convolutional import fully_convolutional
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import probabilities
from pipeline.vision.location.boxes import Map, boxes_of, enlarged
from pipeline.vision.location.class_maps import ClassMaps, all_maps

Pixels = npt.NDArray[Any]

# 4096 x 4096: resnet20 takes some 4 GB for it.
MOST_PIXELS = 2**24


@dataclass(frozen=True)
class Location:
    """Where an image shows a class.

    Attributes:
        label: index of the class.
        probability: of the class; on a whole large image, of the window where it is highest.
        method: 'cam', 'layercam', or 'windows': the posterior of each window.
        image: that the map lies over: height x width x channels, uint8 or uint16.
        heights: the map, height x width of that image, at least 0.
        frame: the box in that image: left edge, upper edge, width, height, px.
        box: the box in the upright image of the file, px; None where nothing speaks for the class.
    """

    label: int
    probability: float
    method: str
    image: Pixels
    heights: Map
    frame: tuple[float, float, float, float]
    box: tuple[float, float, float, float] | None


def locate(
    bundle: Bundle,
    maps: ClassMaps,
    pixels: Pixels,
    size: tuple[int, int],
    *,
    asked: int | None,
    threshold: float,
) -> Location:
    """Locate a class in an image, at the size that the network was trained on.

    Args:
        bundle: the model; its views and temperature decide the class, the map sees the image once.
        maps: of its network.
        pixels: of the file, height x width x 1 or 3, uint8 or uint16, upright.
        size: height and width of the file's image, which `pixels` may be a reduction of.
        asked: index of a class; None for the one that is predicted.
        threshold: where the box begins, relative to the map's maximum.
    """
    image = np.array(fit_pixels(pixels, bundle.preprocessing))  # of its own: torch writes to it
    posterior = probabilities(bundle, [image[None]])[0]
    label = int(posterior.argmax()) if asked is None else asked
    found = maps(bundle.normalize(image[None]), torch.tensor([label]))[0].numpy()
    heights = enlarged(found, image.shape[0], image.shape[1], maps.places)
    frame = boxes_of(heights, [threshold])
    inside = fit_of(*size, bundle.preprocessing).to_image(frame)[0]
    return Location(
        label, float(posterior[label]), maps.method, image, heights, _box(frame[0]), _some(inside)
    )


class WholeImages:
    """Locates classes in images that are larger than the network's input, at their resolution.

    Each window as large as the input has a posterior; the most confident window decides the class.
    Where maps are exact, one run of the convolutions gives those of all classes, and their averages
    over windows are the logits less their biases. Any other network is turned into a fully
    convolutional one, and the map is the posterior of the class in the window around each place.
    """

    def __init__(self, bundle: Bundle, maps: ClassMaps) -> None:
        """Prepare to look at whole images.

        Raises:
            PipelineError: see `fully_convolutional`.
        """
        self._bundle, self._maps = bundle, maps
        self._windows: nn.Module | None = None
        if maps.method != "cam":
            self._windows = fully_convolutional(bundle.network, bundle.description.shape)

    def look(self, inputs: torch.Tensor) -> tuple[npt.NDArray[np.float64], Map | None]:
        """Look at one image, 1 x channels x height x width.

        Returns:
            The posterior in each window, with the bundle's temperature: classes x h x w. And the
            maps of all classes, classes x rows x columns, where they are exact.
        """
        exact = None
        with torch.inference_mode():
            if self._windows is None:
                found = all_maps(self._bundle.network, inputs)
                exact = found[0].float().cpu().numpy()
                means = functional.avg_pool2d(found, self._maps.size, stride=1)
                logits = means + self._bundle.network.head.bias[:, None, None]
            else:
                logits = self._windows(inputs)
            logits = logits[0].cpu().double()
        classes, rows, columns = logits.shape
        flat = logits.softmax(dim=0).numpy().reshape(classes, -1).T
        tempered = temper(flat, self._bundle.description.temperature)
        return np.ascontiguousarray(tempered.T).reshape(classes, rows, columns), exact

    def locate(self, pixels: Pixels, *, asked: int | None, threshold: float) -> Location:
        """Locate a class in an image; see `locate`.

        Raises:
            PipelineError: the image is smaller than the network's input, or too large.
        """
        height, width = pixels.shape[:2]
        to = self._bundle.preprocessing
        if height < to.height or width < to.width:
            raise PipelineError(
                f"{width} x {height} px are less than the {to.width} x {to.height} that the network"
                " was trained on; leave out --full-size"
            )
        if height * width > MOST_PIXELS:
            raise PipelineError(
                f"{width} x {height} px are too many for --full-size, which takes {MOST_PIXELS};"
                " cut the image into parts"
            )
        image = np.array(fit_pixels(pixels, replace(to, height=height, width=width)))
        inputs = self._bundle.normalize(image[None])
        posteriors, exact = self.look(inputs)
        label = int(posteriors.max(axis=(1, 2)).argmax()) if asked is None else asked
        if exact is not None:
            method, heights = "cam", enlarged(exact[label], height, width, self._maps.places)
        else:
            of_class = posteriors[label].astype(np.float32)
            method, heights = "windows", _around(of_class, image.shape[:2], (to.height, to.width))
        frame = _box(boxes_of(heights, [threshold])[0])
        probability = float(posteriors[label].max())
        return Location(label, probability, method, image, heights, frame, _some(np.array(frame)))


def _around(of_windows: Map, image: tuple[int, ...], window: tuple[int, int]) -> Map:
    """Draw the value of each window around its middle; 0 where no window has its middle.

    Windows lie evenly from edge to edge, to within less than the step from one to the next.
    """
    spans = []
    for windows, side, length in zip(of_windows.shape, image, window, strict=False):
        step = (side - length) / max(windows - 1, 1) if windows > 1 else length
        start = max(round((length - step) / 2), 0)
        spans.append((start, min(start + max(round(windows * step), 1), side)))
    (top, bottom), (left, right) = spans
    heights = np.zeros(image[:2], np.float32)
    heights[top:bottom, left:right] = enlarged(of_windows, bottom - top, right - left)
    return heights


def _box(row: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, width, height = row.tolist()
    return x, y, width, height


def _some(row: npt.NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    return _box(row) if row[2:].all() else None
