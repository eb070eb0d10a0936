"""What a stage reads and writes, as dvc.yaml says."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.errors import PipelineError, did_you_mean
from pipeline.params import Params

DVC_FILE = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
_CODE = ("pipeline/", "infra/")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class StageFiles:
    """Paths relative to the workspace, and keys of params.

    Attributes:
        inputs: data that it reads, with outs that it may leave as they are (`persist`); the code
            and the versions that it depends on are left out.
        outs: what it writes.
        params: sections of params.yaml, or keys in one, that it reads.
    """

    inputs: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]

    def values(self, params: Params) -> dict[str, Any]:
        """Return the values of its params, by key."""
        return {key: _look_up(params, key) for key in self.params}


def stage_files(stage: str, params: Params) -> StageFiles:
    """Return what `stage` reads and writes.

    Raises:
        PipelineError: dvc.yaml is missing or damaged, or has no such stage.
    """
    described = _stages().get(stage)
    if not isinstance(described, dict):
        raise PipelineError(
            f"{DVC_FILE} in {Path.cwd()} has no stage {stage}, and a cluster learns from it what a"
            " stage reads and writes; take the file of this version of Convoy"
        )
    try:
        lasting = [out for out in described.get("outs", ()) if _persists(out)]
        read = _names([*described.get("deps", ()), *lasting])
        deps = [_resolve(path, params) for path in read]
        return StageFiles(
            inputs=tuple(path for path in deps if not path.startswith(_CODE)),
            outs=tuple(_resolve(path, params) for path in _names(described.get("outs", ()))),
            params=tuple(_names(described.get("params", ()))),
        )
    except (TypeError, AttributeError, LookupError) as error:
        raise PipelineError(
            f"{DVC_FILE} in {Path.cwd()} describes the stage {stage} in another way than DVC"
            f" ({error}); take the file of this version of Convoy"
        ) from error


def all_outs(params: Params) -> list[str]:
    """Return what all stages write."""
    return [path for stage in _stages() for path in stage_files(stage, params).outs]


def image_files(root: str) -> list[str]:
    """Return the paths that make up the images at `data.root`, a manifest with the files it lists.

    Raises:
        PipelineError: the manifest is unreadable.
    """
    from pipeline.data.sources.manifest import ManifestSource
    from pipeline.data.sources.open import open_source

    if not Path(root).is_file() or not isinstance(source := open_source(root), ManifestSource):
        return [root]
    paths = source.list_images().images["path"].to_pylist()
    return [root, *(str(PurePosixPath(root).parent / path) for path in paths)]


def check_stages(names: Iterable[str]) -> None:
    """Refuse names that dvc.yaml does not have.

    Raises:
        PipelineError: names the first, and the nearest.
    """
    known = _stages()
    for name in names:
        if name not in known:
            nearest = did_you_mean(name, known) or f"; stages: {', '.join(known)}"
            raise PipelineError(f"{DVC_FILE} has no stage {name}{nearest}")


def _stages() -> dict[str, Any]:
    try:
        stages = yaml.safe_load(DVC_FILE.read_text(encoding="utf-8"))["stages"]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise PipelineError(
            f"cannot read the stages of {DVC_FILE} in {Path.cwd()}: {' '.join(str(error).split())}"
        ) from error
    return dict(stages) if isinstance(stages, dict) else {}


def _names(entries: Any) -> Iterator[str]:
    for entry in entries:
        yield from ([entry] if isinstance(entry, str) else map(str, entry))


def _persists(entry: Any) -> bool:
    return isinstance(entry, dict) and any((how or {}).get("persist") for how in entry.values())


def _resolve(path: str, params: Params) -> str:
    return _REFERENCE.sub(lambda found: str(_look_up(params, found[1])), path)


def _look_up(params: Params, key: str) -> Any:
    section, _, rest = key.partition(".")
    value: Any = params.section(section)
    for name in rest.split(".") if rest else ():
        value = value[name] if isinstance(value, Mapping) else None
    return value
