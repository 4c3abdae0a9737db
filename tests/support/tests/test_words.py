"""What a user reads is plain English: CONTRIBUTING.md, "Messages"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for folder in ("libs", "services", "deploy")
    for path in (REPOSITORY / folder).rglob("*.py")
    if "src" in path.parts and "versions" not in path.parts
)
# What must not stand in a message, and what to write instead.
PATTERNS = {
    r"(?<!there )(?<!There )\bis no (?!longer\b|more\b)": "is not a …",
    r"\bis none that\b": "is not a … that …",
    r"; else [$\d{.~]|; else (none|no|never|always|nothing|the)\b": "default: …",
    r"\bfor so long\b|\bso many at a time\b|\bso much per\b": "after this many seconds; per second",
    r"\bcan(no|')t be invented\b": "say what the user may ask for",
    r"\bnothing lives\b": "nothing exists at …",
    r"\bmakes? no sense\b": "is invalid: …",
    r"\bgot on\b": "made progress",
    r"\bknows? nothing of\b": "does not know …",
    r"\bmake room\b": "free some space",
    r"\bfor want of\b|\bwhence\b|\bthereof\b": "say it in plain words",
    r"\bday, \d+:\d\d:\d\d\b": "24 hours",
}


def faults_in(text: str) -> list[str]:
    return [
        f"{found[0]!r}: write {better!r}"
        for pattern, better in PATTERNS.items()
        for found in re.finditer(pattern, text)
    ]


def messages_in(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string that may reach a user; `{}` stands for what is put into it.

    An error's docstring may: it is its default message. Other docstrings do not.
    """
    tree = ast.parse(source)
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            inner |= {id(each) for each in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and is_error(node) and (told := ast.get_docstring(node)):
            yield node.lineno, told.splitlines()[0]
        elif isinstance(node, ast.JoinedStr):
            parts = [str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def is_error(node: ast.ClassDef) -> bool:
    return any(
        re.search(r"(Error|Exception|BadInput|NotFound|Conflict)$", ast.unparse(base)) for base in node.bases
    )


def printed_durations(source: str) -> list[int]:
    """Lines that print a module's `timedelta` as it is: "1 day, 0:00:00"."""
    tree = ast.parse(source)
    durations = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("timedelta(")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue)
        and isinstance(node.value, ast.Name)
        and node.value.id in durations
    ]


def test_messages_are_plain():
    """Every string of every program, docstrings of functions and modules left out."""
    faults = [
        f"{path.relative_to(REPOSITORY)}:{line}: {fault}"
        for path in SOURCES
        for line, text in messages_in(path.read_text())
        for fault in faults_in(text)
    ]
    assert faults == []


def test_durations_are_written_as_people_write_them():
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in SOURCES
        for line in printed_durations(path.read_text())
    ]
    assert found == []


def test_readme_is_plain():
    assert faults_in((REPOSITORY / "README.md").read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        'raise ValueError(f"{path} is no folder")',
        'option("--timeout", help="seconds to wait; else 60")',
        'class Gone(BackendError):\n    """The rows can\'t be invented."""',
    ],
)
def test_a_fault_is_found(text):
    assert [fault for _, message in messages_in(text) for fault in faults_in(message)]


def test_a_printed_duration_is_found():
    assert printed_durations('SILENT = timedelta(days=1)\nprint(f"silent for {SILENT}")') == [2]
