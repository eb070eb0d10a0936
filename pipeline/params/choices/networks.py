"""The networks that `model` may name, and the arguments of each.

A contract test holds the names equal to the builders.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, create_model

from pipeline.params._types import LISTED, Given, Named, Need, Section, whole

_Count = Annotated[int, whole(1)]
_Share = Annotated[
    float, Need("a number of at least 0 and less than 1", lambda share: 0.0 <= share < 1.0)
]
_Flag = Annotated[bool, Need("true or false")]
Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "none"]


class Pool(Given):
    """A pooling, over windows that overlap where stride < size.

    Attributes:
        kind: of the pooling.
        size: side of the window, px.
        stride: px; None means `size`.
    """

    kind: Literal["max", "average"]
    size: _Count
    stride: _Count | None = None


class Block(Given):
    """A convolution, perhaps a batch normalisation, an activation, perhaps a pooling.

    Attributes:
        filters: number of output channels.
        kernel: side, px.
        stride: px.
        padding: with zeros. valid: none; same: kernel - 1 in all, so that n px become ceil(n /
            stride); full: kernel - 1 at each side, so that every overlap counts.
        activation: after the convolution.
        batch_norm: whether one stands between convolution and activation.
        pool: after the activation.
    """

    filters: _Count
    kernel: _Count
    stride: _Count = 1
    padding: Literal["valid", "same", "full"] = "same"
    activation: Activation = "relu"
    batch_norm: _Flag = False
    pool: Annotated[
        Pool | None,
        BeforeValidator(lambda pool: None if pool == "none" else pool),
        Need("none or a mapping such as {kind: max, size: 2, stride: 2}"),
    ] = None


class Dense(Given):
    """A dense layer, an activation, perhaps dropout.

    Attributes:
        units: number of outputs.
        activation: after the layer.
        dropout: probability that an output is set to 0 in training.
    """

    units: _Count
    activation: Activation = "relu"
    dropout: _Share = 0.0


class Plain(Given):
    """Blocks, then dense layers, then the head."""

    blocks: Annotated[tuple[Block, ...], LISTED]
    dense: Annotated[tuple[Dense, ...], LISTED] = ()


class Model(Section):
    """Which network, by a name of `NETWORKS`, and the arguments of its builder."""

    name: str
    args: Section

    def __reduce__(self) -> Any:  # pickle does not find the classes made from the table
        return _restore, (self.model_dump(),)


def _takes(**arguments: Any) -> type[Section]:
    fields: Any = {name: (kind, None) for name, kind in arguments.items()}
    return create_model("Arguments", __base__=Given, **fields)


_NONE = _takes()
_DROPOUT = _takes(dropout=_Share)  # before the head
_DEPTH = _takes(stochastic_depth_prob=_Share)  # of skipping the last block, Huang et al. 2016
_DROPOUT_AND_DEPTH = _takes(dropout=_Share, stochastic_depth_prob=_Share)
_ZERO = _takes(zero_init_residual=_Flag)  # residual blocks start as the identity, Goyal et al. 2017

NETWORKS: Mapping[str, type[Section]] = {
    "plain": Plain,
    "lenet5": _NONE,
    "resnet20": _NONE,
    "resnet32": _NONE,
    "resnet44": _NONE,
    "resnet56": _NONE,
    "alexnet": _DROPOUT,
    "vgg11_bn": _NONE,
    "vgg16_bn": _NONE,
    "squeezenet1_0": _DROPOUT,
    "squeezenet1_1": _DROPOUT,
    "resnet18": _ZERO,
    "resnet34": _ZERO,
    "resnet50": _ZERO,
    "resnet101": _ZERO,
    "resnext50_32x4d": _ZERO,
    "wide_resnet50_2": _ZERO,
    "densenet121": _takes(drop_rate=_Share),
    "mobilenet_v2": _DROPOUT,
    "mobilenet_v3_small": _DROPOUT,
    "mobilenet_v3_large": _DROPOUT,
    "mnasnet1_0": _DROPOUT,
    "shufflenet_v2_x0_5": _NONE,
    "shufflenet_v2_x1_0": _NONE,
    "efficientnet_b0": _DROPOUT_AND_DEPTH,
    "efficientnet_b1": _DROPOUT_AND_DEPTH,
    "efficientnet_b2": _DROPOUT_AND_DEPTH,
    "efficientnet_b3": _DROPOUT_AND_DEPTH,
    "efficientnet_v2_s": _DROPOUT_AND_DEPTH,
    "regnet_y_400mf": _NONE,
    "regnet_y_800mf": _NONE,
    "convnext_tiny": _DEPTH,
    "convnext_small": _DEPTH,
}


def _named(args: type[Section]) -> type[Model]:
    """Return the model of the networks that take these arguments."""
    names: Any = tuple(name for name, taken in NETWORKS.items() if taken is args)
    fields: Any = {"name": (Literal[names], ...), "args": (args, ...)}
    return create_model("Model", __base__=Model, **fields)


AnyModel = Annotated[
    Model,
    Named(
        "network",
        tuple(_named(args) for args in dict.fromkeys(NETWORKS.values())),
    ),
]


def _restore(values: Mapping[str, Any]) -> Model:
    model: Model = TypeAdapter(AnyModel).validate_python(values)
    return model
