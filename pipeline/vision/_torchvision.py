"""The one place that imports torchvision."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _without_compiler():
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


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Within it, an import of torch's compiler, which takes a second, finds next to nothing.

    A box operator of torchvision asks the compiler whether it may be compiled. It is answered no.
    """
    names = ("torch._dynamo", "torch._dynamo.utils")
    if names[0] in sys.modules:
        yield
        return
    package, utils = (ModuleType(name) for name in names)
    utils.is_compile_supported = lambda device_type: False  # type: ignore[attr-defined]  # noqa: ARG005
    sys.modules |= {names[0]: package, names[1]: utils}
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
