"""Read params.yaml and report every mistake in it together."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import PipelineError
from pipeline.params._mistakes import MistakesError, parse
from pipeline.params._schema import Params

PARAMS_FILE = Path("params.yaml")
# A file of a few hundred lines has some hundreds; aliases of aliases have billions.
_MOST_VALUES = 100_000


def _count(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    """Count the values in a node, those behind an alias as often as it stands for them.

    Args:
        node: the document, or a part of it.
        counted: of each list and section so far; 0 while it is being counted.

    Raises:
        ValueError: a list or section holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if node not in counted:
        counted[node] = 0
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        counted[node] = 1 + sum(_count(part, counted) for part in parts)
    if not counted[node]:
        raise ValueError("Circular reference")
    return counted[node]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as DVC does (YAML 1.2), and every key as text.

    So 1e-3 is a number, and neither 1:30 (90 in YAML 1.1) nor 010 (8) is one. It refuses a key
    that is given twice, or is no word, and a document that grows beyond measure by its aliases.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        if (values := _count(node, {})) > _MOST_VALUES:
            raise PipelineError(
                f"params.yaml: by its aliases (*name) it holds {values:.0e} values, expected at"
                f" most {_MOST_VALUES:,}; write lists and sections out"
            )
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            line = f"params.yaml line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise PipelineError(f"{line}: a list or section as a key, expected a word; name it")
            if key.value in seen:
                raise PipelineError(f"{line}: the key '{key.value}' is given twice; keep one")
            seen.add(key.value)
            if key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"  # a class may be called 007 or 2020-01-01
        return super().construct_mapping(node, deep)


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$",
    "tag:yaml.org,2002:float": r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate `path`.

    Raises:
        PipelineError: the file is missing or not YAML, or values are wrong; names all of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"cannot read {path} in {Path.cwd()}: {error}; run convoy in the folder that holds it"
        ) from error
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except RecursionError as error:
        raise PipelineError(
            f"{path}: lists or sections are nested too deeply; unnest them"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no such date, or a list in itself
        raise PipelineError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise PipelineError(
            f"{path}: expected sections such as 'data:', found {type(raw).__name__}"
        )
    try:
        params: Params = parse(Params, raw)
    except MistakesError as error:
        raise PipelineError(f"{path}: {error}") from error
    return params
