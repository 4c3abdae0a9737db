"""Writes the pages of docs/reference that are made of the sources: `make reference`.

A test compares the pages with what the sources say now.
"""

from pathlib import Path

from errors_page import errors_page
from limits_page import limits_page
from settings_page import settings_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES = {"settings.md": settings_page, "limits.md": limits_page, "errors.md": errors_page}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), "utf-8")
