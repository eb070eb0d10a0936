"""What model.args may hold for the network `plain`: blocks and dense layers, key by key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.params._rules import COUNT, FLAG, SHARE, Rule, check_keys, one_of

PADDINGS = ("valid", "same", "full")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "none")
POOLS = ("max", "average")

_A_LIST = Rule(lambda value: isinstance(value, list | tuple), "a list")
_A_POOL = Rule(
    lambda value: value is None or value == "none" or isinstance(value, Mapping),
    "none or a mapping such as {kind: max, size: 2, stride: 2}",
)

PLAIN = {"blocks": _A_LIST, "dense": _A_LIST}
_BLOCK = {
    "filters": COUNT,
    "kernel": COUNT,
    "stride": COUNT,
    "padding": one_of(PADDINGS),
    "activation": one_of(ACTIVATIONS),
    "batch_norm": FLAG,
    "pool": _A_POOL,
}
_POOL = {"kind": one_of(POOLS), "size": COUNT, "stride": COUNT}
_DENSE = {"units": COUNT, "activation": one_of(ACTIVATIONS), "dropout": SHARE}


def check_plain(args: Mapping[str, Any]) -> list[str]:
    """List the mistakes in the description of a plain network, each with its place."""
    mistakes = check_keys("", "", args, PLAIN, required=("blocks",))
    for position, block in _items(args, "blocks"):
        place, called = f".blocks[{position}]", f" (block {position + 1})"
        mistakes += check_keys(place, called, block, _BLOCK, required=("filters", "kernel"))
        pool = block.get("pool") if isinstance(block, Mapping) else None
        if isinstance(pool, Mapping):
            mistakes += check_keys(f"{place}.pool", called, pool, _POOL, required=("kind", "size"))
    for position, layer in _items(args, "dense"):
        place, called = f".dense[{position}]", f" (dense layer {position + 1})"
        mistakes += check_keys(place, called, layer, _DENSE, required=("units",))
    return mistakes


def _items(args: Mapping[str, Any], key: str) -> Iterator[tuple[int, Any]]:
    items = args.get(key, [])
    return enumerate(items if isinstance(items, list | tuple) else [])
