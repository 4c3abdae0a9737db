"""Tests give up: one that waits for another process for ever keeps everybody waiting, and says nothing."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
# Measurements, and what has a limit of its own kind around it: the whole of the tests.
WITHOUT = ("tests/benchmarks", "tests/stack", "tests/support/src/teleop_testing/machine/ordinary.py")
RUNS = ("run", "check_output", "check_call")
ASKS = (
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "head",
    "options",
    "request",
    "stream",
    "Client",
    "AsyncClient",
)
# Programs as strangers write them, and what runs the code of long ago.
STRANGERS = ("tests/strangers/clients/", "tests/e2e/states/")


def test_nothing_waits_without_a_limit():
    """`wait`, `communicate` and `run` of a process say when they give up, but for one that was killed -9."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in files_of_tests()
        for line in endless(ast.parse(path.read_text()))
    ]
    assert not found, "give these PATIENCE_S of teleop_testing.waiting as their limit"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("process.wait()", [1]),
        ("process.terminate()\nprocess.communicate()", [2]),
        ("process.kill()\nprocess.wait()", []),
        ("process.wait(PATIENCE_S)\nsubprocess.run(words, timeout=PATIENCE_S)", []),
        ("subprocess.run(words)", [1]),
    ],
)
def test_what_counts_as_a_limit(code, lines):
    """A killed process ends by itself; anything else may not."""
    assert list(endless(ast.parse(code))) == lines


def test_no_client_gives_up_early():
    """httpx waits 5 s by itself, websockets 10 s: a busy machine takes longer, and nothing is wrong."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in files_of_tests()
        if not path.relative_to(REPOSITORY).as_posix().startswith(STRANGERS)
        for line in hasty(ast.parse(path.read_text()))
    ]
    assert not found, "give these timeout=PATIENCE_S, or take `connect` from teleop_testing.robots.lines"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("httpx.get(address)", [1]),
        ("httpx.AsyncClient(base_url=address)", [1]),
        ("httpx.get(address, timeout=PATIENCE_S)\nhttpx.Client(**options)\nhttpx.Headers()", []),
        ("from websockets.asyncio.client import ClientConnection, connect", [1]),
        ("from websockets.asyncio.client import ClientConnection", []),
    ],
)
def test_what_counts_as_early(code, lines):
    """What is left to the library's default."""
    assert list(hasty(ast.parse(code))) == lines


def files_of_tests() -> Iterator[Path]:
    for top in ("deploy", "libs", "services", "tests"):
        for path in (REPOSITORY / top).rglob("*.py"):
            name = path.relative_to(REPOSITORY).as_posix()
            if "/tests/" in f"/{name}" and "node_modules" not in path.parts and not name.startswith(WITHOUT):
                yield path


def endless(tree: ast.AST) -> Iterator[int]:
    """Lines with a call that waits for a process, and has no limit."""
    of_killed = {id(node) for after in _after_kills(tree) for node in ast.walk(after)}
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        waits = name in ("wait", "communicate") and not node.args and not node.keywords
        runs = (
            name in RUNS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "subprocess"
            and all(keyword.arg not in ("timeout", None) for keyword in node.keywords)
        )
        # What is awaited is no process, or stands within asyncio's own limits.
        if (waits and id(node) not in of_killed | awaited) or runs:
            yield node.lineno


def hasty(tree: ast.AST) -> Iterator[int]:
    """Lines whose client has its library's own, short limit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("websockets."):
            if any(each.name == "connect" for each in node.names):
                yield node.lineno
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and (node.func.value.id, node.func.attr) in {("httpx", each) for each in ASKS}
            and all(keyword.arg not in ("timeout", None) for keyword in node.keywords)
        ):
            yield node.lineno


def _after_kills(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements that follow upon `….kill()`."""
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            for before, after in pairwise(statements if isinstance(statements, list) else []):
                if isinstance(before, ast.Expr) and ast.unparse(before).endswith(".kill()"):
                    yield after
