"""What a user reads is plain English: CONTRIBUTING.md, "Messages"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FOLDERS = ("libs", "services", "deploy", "docs", "tests")
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
    r"\bday, \d+:\d\d:\d\d\b": "24 hours",
    r"(?<!there )(?<!There )\bare no (?!longer\b|more\b)": "are not …",
    r"\b(is|are|was|were) told\b": "is reported, is sent; the log says",
    r"\blets? go of\b": "release, close",
    r"\bput (it )?right\b": "fix",
    r"\blooked into\b": "check",
    r"\bhears? of\b": "is notified of",
    r"\bwanted again\b": "must be sent again",
}
# What must not stand anywhere, in docstrings and comments neither.
RARE = {
    r"\bfor ever\b": "forever",
    r"\banew\b": "again",
    r"\b[Ww]hence\b|\bthereof\b|\bunawares\b": "say it in plain words",
    r"\bone's own\b": "its own, your own",
    r"\bso and so many\b": "this many",
    r"\bfor want of\b": "for lack of",
    r"\bbe it (that|in)\b": "even if",
}


def faults_in(text: str) -> list[str]:
    return [
        f"{found[0]!r}: write {better!r}"
        for pattern, better in (PATTERNS | RARE).items()
        for found in re.finditer(pattern, text)
    ]


def messages_in(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string that may reach a user; `{}` stands for what is put into it, `{MAX}` for
    a constant.

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
            yield node.lineno, "".join(map(shown, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def shown(part: ast.expr) -> str:
    """A part of an f-string as `messages_in` tells it."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    value = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
    return f"{{{value}}}" if value.isupper() else "{}"


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


def prose(document: Path) -> str:
    """A document without its code, and without what it quotes."""
    return re.sub(r'^```.*?^```|`[^`]*`|"[^"]*"', "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


DOCUMENTS = sorted(
    path
    for path in [
        *REPOSITORY.glob("*.md"),
        *(each for name in FOLDERS for each in (REPOSITORY / name).rglob("*.md")),
    ]
    if not path.name.endswith(".ko.md")
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_documents_are_plain(document):
    assert faults_in(prose(document)) == []


def test_docstrings_and_comments_are_plain():
    faults = [
        f"{path.relative_to(REPOSITORY)}: {found[0]!r}: write {better!r}"
        for path in SOURCES
        for pattern, better in RARE.items()
        for found in re.finditer(pattern, path.read_text())
    ]
    assert faults == []


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


PLURAL = re.compile(
    r"(\{\}|%d) ((complete|dataset|row|video) )?(attempt|camera|chunk|column|dataset|episode|file|frame|group"
    r"|object|picture|robot|row|sample|segment|session|stream|task|time|upload|version|video)s\b(?! per )"
)


def test_one_thing_is_not_counted_as_many():
    """`counted` writes "1 episode": a number in front of a fixed plural would be wrong for one."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {text}"
        for path in SOURCES
        for line, text in messages_in(path.read_text())
        if PLURAL.search(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('f"{count} frames were lost"', True),
        ('f"{len(lost)} of {count} video frames"', True),
        ("f\"{counted(count, 'frame')} of {file}\"", False),
        ('f"more than {MAX_FRAMES} frames"', False),
    ],
)
def test_a_fixed_plural_is_found(text, wrong):
    """A constant is a limit, and none of them is 1."""
    assert any(PLURAL.search(message) for _, message in messages_in(text)) is wrong


# The first cell of a row: a message, with `…` for what differs.
QUOTED = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


@pytest.mark.parametrize("document", ["troubleshooting.md", "troubleshooting.ko.md"])
def test_troubleshooting_quotes_what_the_programs_say(document: str):
    texts = (text for path in SOURCES for _, text in messages_in(path.read_text()))
    said = "\n".join(" ".join(text.split()) for text in texts)
    quoted = QUOTED.findall((REPOSITORY / "docs" / document).read_text())
    assert quoted
    parts = [part.strip(" ;:,") for message in quoted for part in message.split("…")]
    assert [part for part in parts if part not in said] == []
