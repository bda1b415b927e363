"""The walls of the house: rules that hold for all code, and that each of them can fail."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

from tests.fixtures.places import ROOT

PACKAGE = ROOT / "mvit_video"
WITH_PROGRAMS = [PACKAGE, *(ROOT / name for name in ("benchmarks", "experiments", "scripts", "tests"))]
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_FILE, MOST_PARAMETERS = 60, 350, 13

Function = ast.FunctionDef | ast.AsyncFunctionDef


def import_cycles(package: Path) -> list[str]:
    """Return sets of modules that import each other, imports for type checkers included."""
    graph = grimp.build_graph(package.name, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    reached = {module: _reached(module, imports) for module in imports}
    cycles = {frozenset(one for one in reached[module] if module in reached[one]) for module in imports}
    return sorted(" ".join(sorted(cycle)) for cycle in cycles if cycle)


def shadowed_modules(package: Path) -> list[str]:
    """Return modules that define a name equal to their own, or whose package binds their name to something else."""
    found = []
    for path in _sources(package):
        is_package = path.name == "__init__.py"
        name = path.parent.name if is_package else path.stem
        siblings = path.parent.parent if is_package else path.parent
        if name in {one.name for one in _tree(path).body if isinstance(one, Function | ast.ClassDef)}:
            found.append(f"{path.relative_to(package)} defines {name}")
        if (siblings / "__init__.py").exists() and name in _imported_names(siblings / "__init__.py"):
            found.append(f"{path.relative_to(package)}: __init__.py binds {name}")
    return found


def long_functions(folder: Path) -> list[str]:
    """Return functions and methods of too many lines."""
    return [
        f"{path.relative_to(folder)}:{one.lineno} {one.name} has {length} lines"
        for path in _sources(folder)
        for one in ast.walk(_tree(path))
        if isinstance(one, Function) and (length := (one.end_lineno or 0) - one.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    ]


def long_files(folder: Path) -> list[str]:
    """Return files of too many lines."""
    return [
        f"{path.relative_to(folder)} has {length} lines"
        for path in _sources(folder)
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES_OF_A_FILE
    ]


def wide_callables(package: Path) -> list[str]:
    """Return public functions, methods and written-out constructors of too many parameters.

    A builder, which is a function whose annotated result is a `VideoNet` or a class derived from it, may have more.
    """
    nets = _subclasses(package, "VideoNet")
    found = []
    for path in _sources(package):
        for qualified, one in _public_callables(_tree(path)):
            is_builder = one.returns is not None and ast.unparse(one.returns) in nets
            number = len(_parameters(one))
            if number > MOST_PARAMETERS and not is_builder:
                found.append(f"{path.relative_to(package)}:{one.lineno} {qualified} has {number} parameters")
    return found


def moving_files(folder: Path) -> list[str]:
    """Return files that replace a file by another, with `os.replace`, `os.rename` or `Path.replace`."""
    return [str(path.relative_to(folder)) for path in _sources(folder) if any(map(_is_move, ast.walk(_tree(path))))]


def packages_unlike_the_tree(package: Path, readme: str) -> set[str]:
    """Return packages that README's file tree does not name, and packages in it that do not exist."""
    there = {f"{path.parent.relative_to(package.parent)}/" for path in _sources(package) if path.name == "__init__.py"}
    return there ^ set(_packages_of_tree(readme, package.name))


def _packages_of_tree(readme: str, root: str) -> Iterator[str]:
    parents: list[tuple[int, str]] = []
    for indent, name in re.findall(r"^( {4,})([\w.]+/)(?:\s|$)", readme, re.MULTILINE):
        while parents and parents[-1][0] >= len(indent):
            parents.pop()
        parents.append((len(indent), name))
        if parents[0][1] == f"{root}/":
            yield "".join(name for _, name in parents)


def _reached(start: str, imports: dict[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [start]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported_names(path: Path) -> set[str]:
    """Return names that a package imports from modules, without the modules themselves."""
    return {
        one.asname or one.name
        for statement in ast.walk(_tree(path))
        if isinstance(statement, ast.ImportFrom) and statement.module != "__future__"
        for one in statement.names
        if not (path.parent.name == (statement.module or "").rpartition(".")[2] and one.asname is None)
    }


def _subclasses(package: Path, root: str) -> set[str]:
    bases = {
        one.name: {ast.unparse(base).rpartition(".")[2] for base in one.bases}
        for path in _sources(package)
        for one in ast.walk(_tree(path))
        if isinstance(one, ast.ClassDef)
    }
    found = {root}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def _public_callables(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    for one in tree.body:
        if isinstance(one, Function) and not one.name.startswith("_"):
            yield one.name, one
        if isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
            for method in one.body:
                if isinstance(method, Function) and (method.name == "__init__" or not method.name.startswith("_")):
                    yield f"{one.name}.{method.name}", method


def _parameters(one: Function) -> list[str]:
    """Return names of arguments that a caller may give."""
    arguments = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
    return [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]


def _is_move(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(one.name in ("replace", "rename") for one in node.names)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if ast.unparse(node.func) in ("os.replace", "os.rename"):
        return True
    return node.func.attr in ("replace", "rename") and len(node.args) == 1 and not node.keywords


@pytest.fixture(scope="module", autouse=True)
def _forget_trees() -> Iterator[None]:
    yield
    _tree.cache_clear()


@pytest.mark.parametrize("rule", [import_cycles, wide_callables])
def test_the_package_keeps(rule: Callable[[Path], list[str]]) -> None:
    assert rule(PACKAGE) == []


@pytest.mark.parametrize("folder", WITH_PROGRAMS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("rule", [shadowed_modules, long_functions, long_files])
def test_all_code_keeps(rule: Callable[[Path], list[str]], folder: Path) -> None:
    assert rule(folder) == []


def test_files_are_moved_into_place_by_one_module() -> None:
    assert moving_files(PACKAGE) == ["jobs/files.py"]


def test_the_tree_of_the_readme_names_every_package_and_no_other() -> None:
    assert packages_unlike_the_tree(PACKAGE, (ROOT / "README.md").read_text(encoding="utf-8")) == set()


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], Path]]:
    """Writes a package `bad` of files by their paths."""

    def make(files: dict[str, str]) -> Path:
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / "bad" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "bad"

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    sys.modules.pop("bad", None)


TYPED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
WIDE = ", ".join(f"x{i}=0" for i in range(14))
LONG = "def short(): pass\n\ndef long():\n" + 60 * "    pass\n"
NET = "class VideoNet: pass\nclass Net(VideoNet): pass\n"


@pytest.mark.parametrize(
    ("rule", "files", "found"),
    [
        (import_cycles, {"a.py": "import bad.b", "b.py": "import bad.c", "c.py": ""}, []),
        (import_cycles, {"a.py": "import bad.b", "b.py": f"{TYPED}import bad.a"}, ["bad.a bad.b"]),
        (import_cycles, {"__init__.py": "from bad.a import x", "a.py": "def x():\n    import bad"}, ["bad bad.a"]),
        (import_cycles, {"a.py": "import bad.b", "b.py": "import bad.c", "c.py": "import bad.a", "d.py": ""},
         ["bad.a bad.b bad.c"]),
        (shadowed_modules, {"a.py": "def b(): ...", "__init__.py": "from bad.a import b\nfrom bad import a"}, []),
        (shadowed_modules, {"a.py": "class a: ..."}, ["a.py defines a"]),
        (shadowed_modules, {"a.py": "", "b.py": "def a(): ...", "__init__.py": "from bad.b import a"},
         ["a.py: __init__.py binds a"]),
        (long_functions, {"a.py": LONG}, ["a.py:3 long has 61 lines"]),
        (long_functions, {"a.py": LONG.replace("def l", "class A:\n  async def l")}, ["a.py:4 long has 61 lines"]),
        (long_files, {"a.py": 350 * "x = 0\n", "b.py": 351 * "x = 0\n"}, ["b.py has 351 lines"]),
        (wide_callables, {"a.py": f"def f({WIDE}): ...\ndef _g({WIDE}): ..."}, ["a.py:1 f has 14 parameters"]),
        (wide_callables, {"a.py": f"class A:\n  def __init__(self, *, {WIDE}): ..."},
         ["a.py:2 A.__init__ has 14 parameters"]),
        (wide_callables, {"a.py": f"{NET}def net({WIDE}) -> Net: ...\ndef f({WIDE}) -> int: ..."},
         ["a.py:4 f has 14 parameters"]),
        (moving_files, {"a.py": "'x'.replace('a', 'b')", "b.py": "import os\nos.replace('a', 'b')"}, ["b.py"]),
        (moving_files, {"a.py": "from os import replace", "b.py": "path.replace(other)"}, ["a.py", "b.py"]),
    ],
)  # fmt: skip
def test_a_rule_finds_what_breaks_it(
    rule: Callable[[Path], list[str]],
    files: dict[str, str],
    found: list[str],
    make_package: Callable[[dict[str, str]], Path],
) -> None:
    assert rule(make_package(files)) == found


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ("    bad/   all\n      a/    some\n        b/  more\n    configs/  runs\n", set()),
        ("    bad/   all\n      a/    some\n", {"bad/a/b/"}),
        ("    bad/   all\n      a/    some\n      b/  more\n", {"bad/a/b/", "bad/b/"}),
    ],
)
def test_a_tree_that_is_not_that_of_the_package_is_found(
    tree: str, found: set[str], make_package: Callable[[dict[str, str]], Path]
) -> None:
    package = make_package({"a/__init__.py": "", "a/b/__init__.py": "", "data/x.txt": ""})
    assert packages_unlike_the_tree(package, f"# Files\n\n{tree}\n") == found
