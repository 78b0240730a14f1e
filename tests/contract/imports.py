"""Which first-party files a module reaches by its imports, read from the source with ast."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported_names(path: Path) -> set[str]:
    """Every module that `path` imports, `a.b` for `from a import b` as well as `a`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def module_file(name: str) -> Path | None:
    """The file of a first-party module, or None for anything else."""
    base = ROOT.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def reached(path: Path) -> set[str]:
    """The first-party files that `path` reaches, itself included, as POSIX paths below the root."""
    waiting, seen = [path], set[Path]()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        files = (module_file(name) for name in imported_names(current))
        waiting.extend(file for file in files if file is not None)
        package = current.parent / "__init__.py"
        if package.is_file() and current.is_relative_to(ROOT):
            waiting.append(package)
    return {file.relative_to(ROOT).as_posix() for file in seen}
