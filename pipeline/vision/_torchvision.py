"""The one place that imports torchvision."""

import sys
from types import ModuleType
from typing import Any

import torch

_schemas: list[Any] = []


def import_torchvision() -> ModuleType:
    """Return torchvision, also where its compiled part does not match torch.

    torchvision's published wheel is built for CUDA. Beside a CPU-only torch its extension cannot
    load, and the import stops because the schemas of two box operators are missing. Models,
    transforms and data sets need neither operator, so their bare schemas are defined and the
    import is tried again. A matching pair is left as it is.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)  # the schemas live as long as this object
        import torchvision
    module: ModuleType = torchvision
    return module
