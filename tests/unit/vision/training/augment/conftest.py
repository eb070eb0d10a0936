"""Images to augment."""

import numpy as np
import pytest
import torch


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["planes", "pixels"])
def images(request):
    drawn = np.random.default_rng(0).random((13, 3, 10, 12), dtype=np.float32)
    return torch.from_numpy(drawn).contiguous(memory_format=request.param)
