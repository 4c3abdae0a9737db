"""The site of the documents, and the pages that are made of the sources."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from teleop_schema.commands.variables import VARIABLES
from teleop_testing.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "deploy/docs"))
import pages  # noqa: E402
import reference  # noqa: E402

# Elements whose content comes with the page, and the attribute that says from where.
FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
# What is left of a table, a fence or a link that was not understood.
RAW = re.compile(r"^\s*\|.*\|\s*$|```|\]\(", re.MULTILINE)


class Reader(HTMLParser):
    """What a page shows outside of code, and what a browser fetches with it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.fetched, self._in_code = "", list[str](), 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_code += tag in ("code", "pre", "script", "style")
        told = dict(attrs)
        if tag in FETCHED and told.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(told.get(FETCHED[tag]) or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_code else data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", folder)
    pages.write(folder / ".pages")
    command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_document_is_a_page_that_the_navigation_names(site: Path):
    named = set(re.findall(r"[\w./-]+\.md", (REPOSITORY / "mkdocs.yml").read_text()))
    written = {address for address in pages.addresses().values() if address.endswith(".md")}
    assert named - {"deploy/docs/pages.py"} == written
    assert all(
        (site / address).with_suffix(".html").exists() for address in written if "README" not in address
    )


def test_pages_fetch_nothing_from_other_hosts(site: Path):
    fetched = {each for path in site.rglob("*.html") for each in Reader(path.read_text()).fetched}
    assert fetched
    assert [each for each in fetched if each.startswith(("http:", "https:", "//"))] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*", styles) == []


def test_pages_show_no_markup(site: Path):
    """Tables, lists and code after a paragraph are what they are on GitHub."""
    raw = {path.name: RAW.findall(Reader(path.read_text()).text) for path in site.rglob("*.html")}
    assert {name: found for name, found in raw.items() if found} == {}


def test_a_link_to_nothing_is_refused():
    with pytest.raises(LookupError, match=r"README\.md: docs/nowhere\.md does not exist"):
        pages.page("[here](docs/nowhere.md)", "README.md", pages.addresses())


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_of_these_sources(name: str):
    """`make reference` writes it."""
    assert (reference.FOLDER / name).read_text("utf-8") == reference.PAGES[name]()


def test_settings_has_every_variable_that_is_read():
    page = (reference.FOLDER / "settings.md").read_text("utf-8")
    assert {name for name in VARIABLES if f"`{name}`" not in page} == set()
