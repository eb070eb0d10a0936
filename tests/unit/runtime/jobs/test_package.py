import shutil
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs import package
from pipeline.runtime.jobs.package import code_digest, code_package, package_size
from tests.contract.imports import ROOT


@pytest.fixture
def product(params, tmp_path, monkeypatch):
    """A product of some files, with what else lies beside code."""
    folder = tmp_path / "product"
    for name in ("a.py", "deep/b.py", "py.typed", "page.html", "__pycache__/a.cpython-311.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(package, "_PRODUCT", folder)
    return folder


def test_the_package_is_small_and_holds_no_data(params, tmp_path):
    Path("data/index.parquet").write_bytes(bytes(10**6))
    Path(".venv/lib").mkdir(parents=True)
    Path(".venv/lib/x.py").write_text("x")
    with code_package() as folder:
        files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert package_size() == sum((folder / file).stat().st_size for file in files)
        packed = Path(shutil.make_archive(str(tmp_path / "package"), "zip", folder))
        assert packed.stat().st_size < 2**20
    assert not folder.exists()
    tops = {file.parts[0] for file in files}
    assert tops == {"pipeline", "params.yaml", "dvc.yaml", "infra"}
    assert {file.suffix for file in files} == {".py", ".html", ".css", ".typed", ".yaml", ".txt"}
    sources = {p.relative_to(ROOT) for p in (ROOT / "pipeline").rglob("*.py")}
    assert sources == {file for file in files if file.suffix == ".py"}


def test_equal_code_has_an_equal_digest(product):
    before = code_digest()
    (product / "__pycache__/b.cpython-311.pyc").write_text("other")
    (product / "a.py").touch()
    assert code_digest() == before


@pytest.mark.parametrize("change", ["content", "name", "swap", "new", "versions"])
def test_changed_code_has_another_one(product, change):
    before = code_digest()
    if change == "content":
        (product / "deep/b.py").write_text("deep/c.py")
    elif change == "name":
        (product / "a.py").rename(product / "c.py")
    elif change == "swap":
        (product / "a.py").write_text("deep/b.py")
        (product / "deep/b.py").write_text("a.py")
    elif change == "new":
        (product / "c.py").touch()
    else:
        Path("infra/lock/arrays.txt").write_text("numpy==1.0")
    assert code_digest() != before


@pytest.mark.parametrize("name", ["weights.py", "params.yaml"])
def test_what_is_too_large_for_code_is_named(product, name):
    large = product / name if name.endswith(".py") else Path(name)
    large.write_bytes(bytes(5 * 2**20))
    with (
        pytest.raises(
            PipelineError,
            match=r"the code package has 5,\d{3},\d{3} bytes, expected at most 4,194,304; the"
            rf" largest file is .*{name}; take out what is no code",
        ),
        code_package(),
    ):
        pass
