"""A convolution as what it is: a dense layer with few weights, most zero and the others shared."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import nn

from pipeline.errors import PipelineError
from pipeline.vision.anatomy._operations import window_of
from pipeline.vision.anatomy.trace import Shape

MAX_ENTRIES = 20_000_000  # that are not zero: 160 MB of weights


@dataclass(frozen=True)
class ConvolutionMatrix:
    """What does to a flattened volume what a convolution does: matrix @ volume.ravel() + bias.

    Attributes:
        matrix: outputs x inputs, float64; an entry is there also where its weight is 0.
        bias: one value for each output, float64.
        places: as `matrix`, int64; which of the flattened weights of the convolution an entry is,
            counted from 1.
        weights: how many weights the convolution has, without its bias.
        inputs, outputs: channels, height, width.
    """

    matrix: sparse.csr_array
    bias: npt.NDArray[np.float64]
    places: sparse.csr_array
    weights: int
    inputs: Shape
    outputs: Shape

    @property
    def dense_weights(self) -> int:
        """How many weights a dense layer has between these volumes, without its bias."""
        return int(self.matrix.shape[0] * self.matrix.shape[1])

    @property
    def density(self) -> float:
        """The share of the entries that are not zero whatever the weights are."""
        return float(self.matrix.nnz / self.dense_weights)

    def summary(self) -> str:
        """Say how large and how empty the matrix is, and how many weights it shares."""
        rows, columns = self.matrix.shape
        return (
            f"{rows:,} x {columns:,} entries, of which {self.matrix.nnz:,} ({self.density:.2%}) are"
            f" weights, {self.weights:,} different ones; a dense layer would have"
            f" {self.dense_weights:,}"
        )


def convolution_matrix(layer: nn.Conv2d, shape: Shape) -> ConvolutionMatrix:
    """Return the matrix of a convolution that pads with zeros, if at all.

    Args:
        layer: of any stride, padding, dilation, groups and channels.
        shape: channels, height, width of its input.

    Raises:
        PipelineError: the matrix would have more than `MAX_ENTRIES` entries, or the layer pads
            with something else than zeros.
    """
    if layer.padding_mode != "zeros":
        raise PipelineError(
            f"the layer pads with {layer.padding_mode}; expected one that pads with zeros"
        )
    window = window_of(layer)
    with torch.inference_mode():
        image = torch.zeros(1, *shape, dtype=layer.weight.dtype, device=layer.weight.device)
        outputs, height, width = layer(image).shape[1:]
    weight = layer.weight.detach().cpu().double().numpy()
    count = weight.size * height * width
    if count > MAX_ENTRIES:
        raise PipelineError(
            f"the matrix of this layer has {count:,} entries, the limit is {MAX_ENTRIES:,}; choose"
            " a smaller layer or image"
        )
    # Each array has six axes: filter, channel and row and column of the kernel, row and column of
    # the output.
    o, c, i, j, y, x = np.ogrid[tuple(slice(side) for side in (*weight.shape, height, width))]
    channel = o // (outputs // window.groups) * weight.shape[1] + c
    row = y * window.stride[0] - window.padding[0] + i * window.dilation[0]
    column = x * window.stride[1] - window.padding[1] + j * window.dilation[1]
    inside = (row >= 0) & (row < shape[1]) & (column >= 0) & (column < shape[2])
    inside = np.broadcast_to(inside, (*weight.shape, height, width))
    targets = np.broadcast_to((o * height + y) * width + x, inside.shape)[inside]
    sources = np.broadcast_to((channel * shape[1] + row) * shape[2] + column, inside.shape)[inside]
    numbers = np.arange(1, weight.size + 1).reshape(*weight.shape, 1, 1)
    places = np.broadcast_to(numbers, inside.shape)[inside]
    size = (outputs * height * width, int(np.prod(shape)))
    numbered = sparse.csr_array((places, (targets, sources)), shape=size)
    matrix = sparse.csr_array(
        (weight.ravel()[numbered.data - 1], numbered.indices, numbered.indptr), shape=size
    )
    bias = np.zeros(outputs) if layer.bias is None else layer.bias.detach().cpu().double().numpy()
    return ConvolutionMatrix(
        matrix,
        np.repeat(bias, height * width),
        numbered,
        weight.size,
        shape,
        (outputs, height, width),
    )
