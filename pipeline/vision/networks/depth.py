"""The layers of a network in groups, from the input to the head.

For rates that shrink with the distance from the head, and for unfreezing from the head down.
"""

from collections.abc import Iterator

from torch import nn

from pipeline.vision.networks.classifier import Classifier


def depth_groups(network: Classifier) -> list[list[nn.Module]]:
    """Split a network into groups of modules, the first next to the input, the last the head.

    A group is a convolution or dense layer, or a whole block of the network's design (a fire
    module, a residual, inverted or dense block), with the norms that follow: fine enough for rates
    that fall group by group (some 5 to 40 groups), and no block is torn apart, whose shortcut would
    join frozen and trained halves. Every parameter is in exactly one group.
    """
    groups: list[list[nn.Module]] = []
    for unit in _units(network.extractor):
        if groups and _is_norm(unit):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [*groups, [network.head]]


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules with parameters, in order; sequences are opened, blocks are not.

    torchvision's networks name their parts in the order in which images pass them.
    """
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from _units(child)
        elif any(True for _ in child.parameters()):
            yield child


def _is_norm(module: nn.Module) -> bool:
    """Whether a module only scales and shifts channels, of whatever class it is."""
    return all(parameter.ndim == 1 for parameter in module.parameters())
