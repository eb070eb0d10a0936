"""Which modules of the package import which, read from their source without running it."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imported_names(module: str) -> frozenset[str]:
    """Return the dotted names that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} uses a relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def own_imports(module: str) -> frozenset[str]:
    """Return the modules of this package that a module imports."""
    return frozenset(name for name in imported_names(module) if name in MODULES)


@cache
def reachable(module: str) -> frozenset[str]:
    """Return the module and all modules of this package that it needs, directly or not."""
    found, waiting = {module}, [module]
    while waiting:
        new = own_imports(waiting.pop()) - found
        found |= new
        waiting += new
    return frozenset(found)


def third_party(module: str) -> frozenset[str]:
    """Return the top-level names of what a module imports from elsewhere."""
    return frozenset(name.partition(".")[0] for name in imported_names(module)) - {"pipeline"}
