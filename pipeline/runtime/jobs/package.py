"""The code that travels with a job: the product and its params, never data."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import PipelineError

_PRODUCT = Path(__file__).parents[2]
_SUFFIXES = {".py", ".html", ".css", ".typed"}
_FILES = ("params.yaml", "dvc.yaml", ".dvcignore")
_VERSIONS = "infra/lock/*.txt"  # on which stages depend
MOST_BYTES = 4 * 2**20  # before it is compressed, to about a quarter


def code_files() -> list[Path]:
    """Return the files of the product, sorted."""
    return sorted(path for path in _PRODUCT.rglob("*") if path.suffix in _SUFFIXES)


def project_files() -> list[Path]:
    """Return the files of the current folder that say what is to be done."""
    named = [Path(name) for name in _FILES]
    return [path for path in named if path.exists()] + sorted(Path().glob(_VERSIONS))


def code_digest() -> str:
    """Digest the product's files, and the versions that stages depend on: sha256, hex."""
    digest = hashlib.sha256()
    named = [(path.relative_to(_PRODUCT).as_posix(), path) for path in code_files()]
    for name, path in [*named, *((str(path), path) for path in sorted(Path().glob(_VERSIONS)))]:
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def package_size() -> int:
    """Return the bytes of the package, before it is compressed."""
    files = [*code_files(), *project_files()]
    return sum(path.stat().st_size for path in files)


@contextmanager
def code_package() -> Iterator[Path]:
    """Yield a folder with the product and the files that say what is to be done.

    Raises:
        PipelineError: it is larger than any such product, so that something else lies in it.
    """
    if (size := package_size()) > MOST_BYTES:
        largest = max(*code_files(), *project_files(), key=lambda path: path.stat().st_size)
        raise PipelineError(
            f"the code package has {size:,} bytes, expected at most {MOST_BYTES:,}; the largest"
            f" file is {largest}; take out what is no code"
        )
    with TemporaryDirectory(prefix="convoy-package-") as name:
        folder = Path(name)
        for path in code_files():
            copy = folder / "pipeline" / path.relative_to(_PRODUCT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for file in project_files():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file)
        yield folder
