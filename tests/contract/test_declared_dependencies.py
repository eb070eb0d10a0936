"""Whatever the package imports is a direct dependency in pyproject.toml, and is locked."""

import re
import sys
import tomllib

from tests.contract.imports import MODULES, ROOT, third_party

# Where the name to import is not the name to install.
INSTALLED_AS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "pydantic_core": "pydantic",  # a part of it, at the version that it pins
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK_FILES = (ROOT / "infra" / "requirements.lock", *(ROOT / "infra" / "lock").glob("*.txt"))
LOCKED = {
    re.sub(r"[-_.]+", "-", name).lower()
    for path in LOCK_FILES
    for name in re.findall(r"^([\w.-]+)==", path.read_text(), re.M)
}


def _names(requirements):
    return {re.split(r"[\[<>=~!]", line)[0].lower() for line in requirements}


def test_every_import_is_declared_and_every_declaration_is_used():
    imported = {name for module in MODULES for name in third_party(module)}
    imported = {INSTALLED_AS.get(name, name) for name in imported - set(sys.stdlib_module_names)}
    optional = _names(PROJECT["optional-dependencies"]["search"])
    # The parser is for DVC.
    assert _names(PROJECT["dependencies"]) - {"ruamel.yaml.clib"} | optional == imported


def test_everything_declared_is_locked_at_one_version():
    declared = _names(PROJECT["dependencies"]) | _names(PROJECT["optional-dependencies"]["dev"])
    assert {name.replace(".", "-") for name in declared} <= LOCKED


def test_the_docs_give_a_reason_for_each_direct_dependency():
    table = (ROOT / "docs" / "dependencies.md").read_text()
    for name in _names(PROJECT["dependencies"]):
        assert re.search(rf"^\| [^|]*\b{re.escape(name)}\b[^|]*\| \S", table, re.M | re.I), name
