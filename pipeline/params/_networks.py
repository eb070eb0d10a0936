"""The names that model.name may take, and the arguments that model.args may give each.

A contract test holds the names equal to the builders.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.params._plain import PLAIN, check_plain
from pipeline.params._rules import FLAG, SHARE, Rules, check_keys

_NONE: Rules = {}
_DROPOUT = {"dropout": SHARE}  # before the last dense layer
_DEPTH = {"stochastic_depth_prob": SHARE}  # of skipping the last block, Huang et al. 2016
_DROPOUT_AND_DEPTH = _DROPOUT | _DEPTH
_ZERO = {"zero_init_residual": FLAG}  # residual blocks start as the identity, Goyal et al. 2017

NETWORKS: Mapping[str, Rules] = {
    "plain": PLAIN,
    "lenet5": _NONE,
    "resnet20": _NONE,
    "resnet32": _NONE,
    "resnet44": _NONE,
    "resnet56": _NONE,
    "alexnet": _NONE,
    "vgg11_bn": _NONE,
    "vgg16_bn": _NONE,
    "squeezenet1_0": _NONE,
    "squeezenet1_1": _NONE,
    "resnet18": _ZERO,
    "resnet34": _ZERO,
    "resnet50": _ZERO,
    "resnet101": _ZERO,
    "resnext50_32x4d": _ZERO,
    "wide_resnet50_2": _ZERO,
    "densenet121": {"drop_rate": SHARE},
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


def check_network_args(name: str, args: Mapping[str, Any]) -> list[str]:
    """List the mistakes in model.args, each starting with its place below that key.

    Args:
        name: one of `NETWORKS`.
        args: from params.yaml.
    """
    return check_plain(args) if name == "plain" else check_keys("", "", args, NETWORKS[name])
