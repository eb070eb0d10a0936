"""Files in a bucket, or in another place that fsspec opens."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pipeline.data.images.decode import UnusableImageError, check_bytes
from pipeline.data.sources._files import File, is_left_over
from pipeline.remote import Remote

# How file systems call what changes with the content, the surest first.
_VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)
_GONE = "unreadable: No such file or directory"
_READ_AS_VERSION = "its name holds ?versionId=, which s3fs takes for a version; rename it"


class BucketFiles:
    """What lies below an address, by one listing of all of it.

    As in a folder, hidden files and those that systems leave behind are passed over.
    """

    def __init__(self, uri: str) -> None:
        """List all of it: a request for each thousand files.

        Args:
            uri: such as s3://bucket/images.

        Raises:
            PipelineError: it cannot be listed.
        """
        remote = _remote(uri)
        found: dict[str, Any] = remote.ask(lambda: remote.fs.find(remote.root, detail=True), {})
        before = len(remote.root) + 1
        self._versions = {
            name[before:]: _version(info)
            for name, info in found.items()
            if len(name) > before
            and not name.endswith("/")
            and not any(map(is_left_over, name[before:].split("/")))
        }
        self._paths = sorted(self._versions)

    def exists(self) -> bool:
        """Whether anything lies there."""
        return bool(self._paths)

    def look(self, path: str) -> File:
        """Return a file; with an obstacle where there is none."""
        version = self._versions.get(path)
        if version is None:
            return File(path, "", _GONE)
        obstacle = _READ_AS_VERSION if "?versionId=" in path else None
        return File(path, version, obstacle)

    def walk(self, folder: str = "") -> Iterator[File]:
        """Yield all files below a folder, sorted by path."""
        prefix = f"{folder}/" if folder else ""
        for place in range(bisect_left(self._paths, prefix), len(self._paths)):
            if not self._paths[place].startswith(prefix):
                return
            yield self.look(self._paths[place])

    def children(self, folder: str = "") -> tuple[list[str], list[File]]:
        """Return the names of the folders, and the files, directly in a folder."""
        folders: dict[str, None] = {}
        files = []
        skipped = len(folder) + 1 if folder else 0
        for file in self.walk(folder):
            name, inner, _ = file.path[skipped:].partition("/")
            if inner and name:  # a key may hold two slashes in a row, where no folder can be
                folders[name] = None
            else:
                files.append(file)
        return list(folders), files


def read_object(uri: str, path: str, max_pixels: int | None = None) -> bytes:
    """Read what should be an image, of at most `max_pixels` where they are given.

    Raises:
        UnusableImageError: gone, or larger than any such image.
        PipelineError: the bucket does not answer, or refuses.
    """
    remote = _remote(uri)
    whole = f"{remote.root}/{path}"
    try:
        if max_pixels is not None:
            check_bytes(remote.ask(lambda: int(remote.fs.info(whole)["size"])), max_pixels)
        return bytes(remote.ask(lambda: remote.fs.cat_file(whole)))
    except FileNotFoundError as error:
        raise UnusableImageError(_GONE) from error


@cache
def _remote(uri: str) -> Remote:
    return Remote(uri, "images at", "data.root")


def _version(info: Mapping[str, Any]) -> str:
    known = (str(info[name]) for name in _VERSIONS if info.get(name) is not None)
    return f"{info['size']} {next(known, '')}".strip()
