"""Writes the pages of the site: those of docs/, and the documents that lie elsewhere in the repository.

Links lead where they do on GitHub; the documents themselves have nothing in them that is there for the site.
"""

import base64
import html
import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import mmdr
from operations import described

REPOSITORY = Path(__file__).parents[2]
FENCED = re.compile(r"(^```.*?^```\n?)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
ITEM = re.compile(r"([-*]|\d+\.) ")
ROW = re.compile(r" *\|")
# Where docs/reference/http.md has the addresses, which the OpenAPI document describes.
OPERATIONS = "<!-- operations -->"
# Pages that stand for documents at the top, and for the READMEs of packages.
OUTSIDE = {
    "README.md": "index.md",
    "README.ko.md": "index.ko.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "deploy/SCALING.md": "parts/scaling.md",
}


def outside() -> dict[str, str]:
    """Path in the repository and address in the site of each document that does not lie in docs/."""
    folders = ("libs", "services", "deploy", "tests", "examples")
    readmes = [path for name in folders for path in (REPOSITORY / name).glob("**/README.md")]
    parts = {path.relative_to(REPOSITORY).as_posix(): f"parts/{path.parent.name}.md" for path in readmes}
    return OUTSIDE | parts


def addresses() -> dict[str, str]:
    """The same for every document, those of docs/ too."""
    inside = {f"docs/{path.relative_to(REPOSITORY / 'docs').as_posix()}" for path in _in_docs()}
    return {path: path.removeprefix("docs/") for path in inside} | outside()


def _in_docs() -> list[Path]:
    return [path for path in (REPOSITORY / "docs").rglob("*") if path.is_file()]


def write(folder: Path) -> None:
    """All pages of the site, and their pictures, into an empty folder."""
    known = addresses()
    for source, address in known.items():
        target = folder / address
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".md":
            text = (REPOSITORY / source).read_text("utf-8")
            target.write_text(page(text, source, known), "utf-8")
        else:
            shutil.copyfile(REPOSITORY / source, target)


def page(text: str, source: str, known: dict[str, str]) -> str:
    """A document as its page has it.

    source  path of the document in the repository
    known   `addresses()`
    raises  LookupError for a link to a file that does not exist
    """
    if OPERATIONS in text:
        text = text.replace(OPERATIONS, described(REPOSITORY / "deploy/proxy/openapi.json"))
    parts = FENCED.split(text)
    for index, part in enumerate(parts):
        if part.startswith("```mermaid\n"):
            parts[index] = drawn(part.removeprefix("```mermaid\n").rstrip("`\n"))
        elif not part.startswith("```"):
            parts[index] = LINK.sub(lambda found: _led(found, source, known), spaced(part))
    return "\n".join(parts)


def spaced(text: str) -> str:
    """The text with empty lines before lists and tables: Python-Markdown needs them, GitHub does not."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        begins = next((each for each in (ITEM, ROW) if each.match(line) and not each.match(before)), None)
        inside = begins is ITEM and before.startswith(" ")
        if begins and before and not inside:
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _led(found: re.Match[str], source: str, known: dict[str, str]) -> str:
    """A link of the document `source`, as its page needs it; the path of a file that has no page."""
    picture, text, link = found.groups()
    path, hash_, anchor = unquote(link).partition("#")
    if "://" in link or not path:
        return found[0]
    target = os.path.normpath(PurePosixPath(source).parent / path)
    if target in known:
        relative = os.path.relpath(known[target], PurePosixPath(known[source]).parent)
        return f"{picture}[{text}]({relative}{hash_}{anchor})"
    if not (REPOSITORY / target).exists():
        raise LookupError(f"{source}: {link} does not exist")
    return f'<code title="{html.escape(target)}">{html.escape(text.strip("`"))}</code>'


def drawn(diagram: str) -> str:
    """A Mermaid diagram as a picture, so that pages need no script for it."""
    picture = base64.b64encode(mmdr.render(diagram).svg().encode()).decode()
    words = " ".join(re.findall(r"[\w' -]+(?=[\])/])", diagram))
    return f'<img alt="{html.escape(words)}" src="data:image/svg+xml;base64,{picture}">\n'


if __name__ == "__main__":
    write(Path(sys.argv[1]))
