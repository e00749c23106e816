"""The house: imports run one way, folders and functions stay small."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import ROOT

FLOORS = {
    "config": 1,
    "models": 1,
    "rules": 1,
    "schemas": 2,
    "database": 3,
    "access": 4,
    "store": 4,
    "lists": 5,
    "runs": 6,
    "display": 7,
    "exchange": 7,
    "players": 7,
    "web": 7,
    "routes": 8,
    "chat": 8,
    "mock": 8,
    "admin": 9,
    "app": 10,
    "cli": 10,
    "server": 10,
}
BESIDE = {"cli": {"app"}, "server": {"app", "cli"}}
"""What runs the app imports it."""
FOLDERS = [name for name in FLOORS if (ROOT / name).is_dir()]
MODULES = sorted(path for name in FLOORS for path in ROOT.glob(f"{name}/*.py")) + [
    ROOT / f"{name}.py" for name in FLOORS if (ROOT / f"{name}.py").exists()
]


def place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function's name and its lines below the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            yield f"{path.name}:{node.name}", node.end_lineno - body[0].lineno + 1  # type: ignore[operator]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_its_own_folder_and_lower_floors_only(path: Path) -> None:
    own = place(path)
    higher = {
        name
        for name in imports(path)
        if name in FLOORS and name != own and FLOORS[name] >= FLOORS[own]
    }
    assert higher <= BESIDE.get(own, set())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_at_most_1000_lines(folder: str) -> None:
    text = "".join(path.read_text() for path in (ROOT / folder).glob("*.py"))
    assert len([line for line in text.splitlines() if line.strip()]) <= 1000


def test_functions_are_short() -> None:
    lengths = dict(each for path in MODULES for each in functions(path))
    assert {name: length for name, length in lengths.items() if length > 30} == {}
    assert statistics.median(lengths.values()) < 8
