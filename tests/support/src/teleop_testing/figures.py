"""Figures of the sources: how full folders are, how long imports chain, how long functions are, what is said.

python -m teleop_testing.figures        (make figures)
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[4]
SOURCES = ("libs/*/src", "services/*/src", "deploy/local/src", "tests/support/src")
# One file a step, by its number: that folder only grows.
MIGRATIONS = "migrations"
COMMENT = re.compile(r"(^|\s{2})# ")

type Imports = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Module:
    """One file of Python.

    imports  modules of ours that it needs to be imported, those for type checkers included
    all      with those that functions import when they are called
    """

    name: str
    path: Path
    imports: frozenset[str]
    all: frozenset[str]


def read_modules(sources: Iterable[Path]) -> list[Module]:
    """Every module below the given `src` folders."""
    paths = {_name_of(path, source): path for source in sources for path in sorted(source.rglob("*.py"))}
    modules = []
    for name, path in paths.items():
        tree = ast.parse(path.read_text())
        deferred = {id(node) for function in _functions(tree) for node in ast.walk(function)}
        now: set[str] = set()
        later: set[str] = set()
        for node in ast.walk(tree):
            named = {each for each in _imported(node, paths) if each != name}
            (later if id(node) in deferred else now).update(named)
        modules.append(Module(name, path, frozenset(now), frozenset(now | later)))
    return modules


def folder_sizes(modules: Iterable[Module]) -> Counter[Path]:
    """Modules per folder, without those that only say that the folder is a package."""
    return Counter(
        module.path.parent
        for module in modules
        if module.path.name != "__init__.py" and MIGRATIONS not in module.path.parts
    )


def longest_chain(imports: Imports) -> list[str]:
    """The longest way from a module by its imports, inside of one package each: who reads it reads these.

    imports  without cycles
    """
    longest: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in longest:
            inside = sorted(each for each in imports[name] if _package(each) == _package(name))
            longest[name] = [name, *max(map(chain, inside), key=len, default=[])]
        return longest[name]

    return max(map(chain, imports), key=len)


def cycles(imports: Imports) -> list[list[str]]:
    """Groups of modules that import each other, by whatever way."""
    reachable = {name: _reachable(name, imports) for name in imports}
    groups = {
        frozenset(other for other in found if name in reachable[other]): name
        for name, found in reachable.items()
        if name in found
    }
    return sorted(sorted(group) for group in groups)


def function_lengths(modules: Iterable[Module]) -> list[tuple[int, str]]:
    """Lines of each function, without its decorators, and where it is."""
    return sorted(
        (function.end_lineno - function.lineno + 1, f"{module.name}.{function.name}")
        for module in modules
        for function in _functions(ast.parse(module.path.read_text()))
        if function.end_lineno is not None
    )


def comment_share(modules: Iterable[Module]) -> float:
    """Lines with a comment, of all lines that are not empty."""
    lines = [line for module in modules for line in module.path.read_text().splitlines() if line.strip()]
    return sum(bool(COMMENT.search(line)) for line in lines) / len(lines)


def report(root: Path = ROOT) -> Iterator[str]:
    """The figures as lines for people."""
    modules = read_modules(source for pattern in SOURCES for source in sorted(root.glob(pattern)))
    lengths = function_lengths(modules)
    sizes = [length for length, _ in lengths]
    everything = {module.name: module.all for module in modules}
    yield f"{len(modules)} modules"
    yield "fullest folders:"
    for folder, count in folder_sizes(modules).most_common(5):
        yield f"  {count:3} {folder.relative_to(root)}"
    chains = [longest_chain(each) for each in by_package(modules).values()]
    yield "longest import chains:"
    for chain in sorted(chains, key=len, reverse=True)[:5]:
        yield f"  {len(chain):3} {' > '.join(chain)}"
    yield f"import cycles: {cycles(everything) or 'none'}"
    p95 = quantiles(sizes, n=20)[-1]
    yield f"lines of a function: median {median(sizes):.0f}, 95 % below {p95:.0f}; the longest:"
    for length, name in reversed(lengths[-5:]):
        yield f"  {length:3} {name}"
    yield f"lines with a comment: {comment_share(modules):.1%}"


def by_package(modules: Iterable[Module]) -> dict[str, dict[str, frozenset[str]]]:
    """The imports inside of each package."""
    packages: dict[str, dict[str, frozenset[str]]] = {}
    for module in modules:
        package = _package(module.name)
        inside = frozenset(each for each in module.imports if _package(each) == package)
        packages.setdefault(package, {})[module.name] = inside
    return packages


def _name_of(path: Path, source: Path) -> str:
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _package(name: str) -> str:
    return name.partition(".")[0]


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _imported(node: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that an import names: `from a import b` names `a.b` if that is a module, else `a`."""
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield from (name for name in (inner if inner in known else node.module,) if name in known)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)


def _reachable(name: str, imports: Imports) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for each in imports[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found


if __name__ == "__main__":
    print("\n".join(report()))
