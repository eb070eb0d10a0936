"""Errors of torch, translated into terms of params.yaml."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import PipelineError


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the errors of torch that a recipe may cause into a PipelineError with a remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            f"the device has too little memory for a step ({str(error).partition('.')[0]});"
            " raise accumulate, or lower global_batch_size or the size of the images in params.yaml"
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise PipelineError(
            "a batch norm got a single value per channel to normalise, from a part of a batch"
            " that holds one image; raise global_batch_size, or lower accumulate or the number"
            " of workers"
        ) from error
