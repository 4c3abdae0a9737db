"""What the documents point at is there."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

REPOSITORY = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    folders = [path for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted([*REPOSITORY.glob("*.md"), *(found for each in folders for found in each.rglob("*.md"))])


def anchors(document: Path) -> set[str]:
    """As they are made of headings: lower case, no punctuation, dashes for spaces."""
    headings = HEADING.findall(CODE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    """To a file of this repository, and to a heading in it."""
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if "://" in link:
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def shown(document: str) -> list[str]:
    """What a README shows to type and to read, without its comments; the map of folders is prose."""
    blocks = CODE.findall((REPOSITORY / document).read_text())
    return [re.sub(r" *# .*", "", block) for block in blocks if "libs/schema  " not in block]


def test_the_korean_readme_shows_the_same_commands_and_links():
    korean, english = "README.ko.md", "README.md"
    assert shown(korean) == shown(english)
    texts = [CODE.sub("", (REPOSITORY / each).read_text()) for each in (korean, english)]
    links, rows = [set(LINK.findall(text)) for text in texts], [text.count("\n|") for text in texts]
    only_in_one = {each for each in links[0] ^ links[1] if not each.startswith(("#", "README"))}
    assert only_in_one == set()
    assert rows[0] == rows[1]
