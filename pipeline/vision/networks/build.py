"""A network by its name in params.yaml."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.params import MistakesError, parse
from pipeline.params.choices.networks import AnyModel, Model
from pipeline.vision.networks.classifier import Classifier, DoesNotFitError, Shape
from pipeline.vision.networks.families import REPLACED, build_family
from pipeline.vision.networks.plain import LENET5, build_plain
from pipeline.vision.networks.small_resnet import build_small_resnet

BUILDERS: Mapping[str, Callable[..., Classifier]] = {
    "plain": build_plain,
    "lenet5": partial(build_plain, **LENET5),
    "resnet20": partial(build_small_resnet, 20),
    "resnet32": partial(build_small_resnet, 32),
    "resnet44": partial(build_small_resnet, 44),
    "resnet56": partial(build_small_resnet, 56),
    **{name: partial(build_family, name) for name in REPLACED},
}
_NO_MEMORY = ("allocate memory", "out of memory", "size calculation overflowed")  # torch's words


def build_network(name: str, args: Mapping[str, Any], shape: Shape, classes: int) -> Classifier:
    """Build a network with random weights from torch's global generator.

    Args:
        name: one of `BUILDERS`.
        args: further arguments of that network, such as dropout.
        shape: channels, height and width of one image.
        classes: number of classes.

    Raises:
        PipelineError: unknown name or argument, or images too small or too large for the network.
    """
    try:
        model: Model = parse(AnyModel, {"name": name, "args": dict(args)})
    except MistakesError as error:
        mistakes = "; ".join(f"model.{mistake}" for mistake in error.args)
        raise PipelineError(f"{mistakes}; change the model {name} in params.yaml") from error
    given = {key: getattr(model.args, key) for key in model.args.model_fields_set}
    try:
        network = BUILDERS[name](shape=shape, classes=classes, **given)
        _try_one_image(network, shape)
    except (DoesNotFitError, RuntimeError) as error:
        _, height, width = shape
        reason = str(error)
        if any(word in reason for word in _NO_MEMORY):
            raise PipelineError(
                f"{name} for images of {height} x {width} px and {classes} classes takes more"
                f" memory than there is ({reason}); lower the size of the images (pack.height and"
                " pack.width in params.yaml, --height and --width) or the number of classes"
            ) from error
        also = ", or change model.args," if name == "plain" else ""
        raise PipelineError(
            f"{name} does not take images of {height} x {width} px ({reason}); raise pack.height"
            f" and pack.width{also} in params.yaml; or --height and --width, if they are given"
        ) from error
    return network


def _try_one_image(network: nn.Module, shape: Shape) -> None:
    """Run one image through: a network that shrinks it to nothing says so.

    Shapes alone would do, but torch's meta device brings torch's compiler: 1.1 s of imports.

    Raises:
        RuntimeError: from the layer that gets too little.
    """
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    network.train()


def count_parameters(network: nn.Module) -> int:
    """Count the parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in network.parameters())
