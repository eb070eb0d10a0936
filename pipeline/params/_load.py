"""Read params.yaml and report every mistake in it together."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.params._mistakes import mistakes
from pipeline.params._schema import Params

PARAMS_FILE = Path("params.yaml")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as DVC does, and every key as text.

    It refuses a key that is given twice, or is no word.
    """

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


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


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
        document = json.dumps(raw, default=str)
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
        # JSON mode keeps the types strict and still takes a list for a tuple.
        return Params.model_validate_json(document)
    except ValidationError as error:
        found = mistakes(error, raw, Params)
        raise PipelineError(f"{path}: {'; '.join(found)}") from error
