"""The sources stay such that a newcomer finds the way: small rooms, short ways from top to bottom."""

import pytest
from teleop_testing.figures import (
    ROOT,
    SOURCES,
    by_package,
    comment_share,
    cycles,
    folder_sizes,
    function_lengths,
    longest_chain,
    read_modules,
)

MOST_MODULES = 15
LONGEST_CHAIN = 10


@pytest.fixture(scope="module")
def modules():
    return read_modules(source for pattern in SOURCES for source in sorted(ROOT.glob(pattern)))


def test_no_folder_is_full(modules):
    """More modules than that are two rooms."""
    full = {folder.relative_to(ROOT): n for folder, n in folder_sizes(modules).items() if n > MOST_MODULES}
    assert full == {}


def test_chains_of_imports_are_short(modules):
    """From a module it is not far to the last of those that it builds upon."""
    chains = {package: longest_chain(imports) for package, imports in by_package(modules).items()}
    long = {name: chain for name, chain in chains.items() if len(chain) > LONGEST_CHAIN}
    assert long == {}


def test_nothing_imports_in_a_circle(modules):
    """Nor for its types alone, nor from inside of a function."""
    assert cycles({module.name: module.all for module in modules}) == []


def test_what_the_figures_say_of_a_small_package(tmp_path):
    """Imports for types count like others; those inside of a function only close circles."""
    files = {
        "__init__.py": "",
        "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.b import B\n",
        "b.py": "from pack import c  # why\n\n\nclass B:\n    def far(self):\n        from pack.a import A\n",
        "c.py": "import os\n",
    }
    (tmp_path / "pack").mkdir()
    for name, text in files.items():
        (tmp_path / "pack" / name).write_text(text)
    found = read_modules([tmp_path])
    imports = by_package(found)["pack"]
    assert longest_chain(imports) == ["pack.a", "pack.b", "pack.c"]
    assert cycles(imports) == []
    assert cycles({module.name: module.all for module in found}) == [["pack.a", "pack.b"]]
    assert folder_sizes(found) == {tmp_path / "pack": 3}
    assert function_lengths(found) == [(2, "pack.b.far")]
    assert comment_share(found) == 1 / 8
