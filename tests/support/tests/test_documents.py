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


def shown(document: Path) -> list[str]:
    """What a document shows to type and to read, without its comments; the map of folders is prose."""
    blocks = CODE.findall(document.read_text())
    return [re.sub(r" *# .*", "", block) for block in blocks if "libs/schema  " not in block]


def links_of(document: Path) -> set[str]:
    """What it names; a document and its translation count as one, whose headings differ."""
    links = LINK.findall(CODE.sub("", document.read_text()))
    paths = {link.partition("#")[0].replace(".ko.md", ".md") for link in links}
    return paths - {"", document.name.replace(".ko.md", ".md")}


TRANSLATED = [path for path in documents() if path.name.endswith(".ko.md")]


@pytest.mark.parametrize("korean", TRANSLATED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_korean_document_shows_the_same_commands_and_links(korean):
    english = korean.with_name(korean.name.replace(".ko.md", ".md"))
    assert shown(korean) == shown(english)
    assert links_of(korean) == links_of(english)
    rows = [CODE.sub("", each.read_text()).count("\n|") for each in (korean, english)]
    assert rows[0] == rows[1]
