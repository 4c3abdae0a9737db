"""Puts libraries that answer nothing in place of shared libraries that are linked, but never called.

usage: stand_in.py folder library…      (a library: its file's name up to the first hyphen or dot)

The libraries of FFmpeg, and those of Arrow, name each other, so that none can just be left out: the loader
would refuse the rest. A stand-in has the name of the one that it replaces, and every function that others
link to; each returns 0, with which FFmpeg loads, and takes it that there is none of that. To encode with one
fails (x265) or ends the process (SVT-AV1). What only the replaced ones needed is removed. Needs binutils.
"""

import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

# The body of all functions: 0 as result.
RETURN_0 = {"x86_64": "xor %eax, %eax\nret", "aarch64": "mov x0, #0\nret"}
# Types that nm tells: functions, weak ones, and those that are chosen when they are loaded.
FUNCTIONS = "TWi"


def main() -> None:
    folder, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    libraries = {path.name: path for path in folder.glob("*.so*")}
    links = {path: linked(path) for path in folder.parent.rglob("*.so*")}
    replaced = [find(libraries, name) for name in names]
    candidates = set().union(*(links.pop(path) for path in replaced))
    for path in replaced:
        callers = [caller for caller, needed in links.items() if path.name in needed]
        make(path, functions(path, callers))
    while unneeded := candidates & (libraries.keys() - set().union(*links.values())):
        for name in unneeded:
            path = libraries.pop(name)
            candidates |= links.pop(path)
            path.unlink()


def find(libraries: dict[str, Path], name: str) -> Path:
    """The one library of that name; SystemExit where a package's new version has none or several."""
    found = [path for file, path in libraries.items() if re.split(r"[-.]", file)[0] == name]
    if len(found) != 1:
        raise SystemExit(
            f"{len(found)} libraries are called {name}: look what this version of the package has"
        )
    return found[0]


def linked(path: Path) -> set[str]:
    """Names of the libraries that a library is linked against."""
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "--wide", "--dynamic", path)))


def functions(path: Path, callers: Iterable[Path]) -> dict[str, str]:
    """What the callers ask a library for: name and version, which may be empty; SystemExit if it is data."""
    offered = {symbol.partition("@")[0]: kind for symbol, kind in symbols(path, "--defined-only")}
    asked = [symbol for caller in callers for symbol, _ in symbols(caller, "--undefined-only")]
    found = {
        name: version for name, _, version in (symbol.partition("@") for symbol in asked) if name in offered
    }
    if data := [name for name in found if offered[name] not in FUNCTIONS]:
        raise SystemExit(f"{path.name} can't be replaced: {', '.join(data)} is read, not called")
    return found


def symbols(path: Path, which: str) -> list[tuple[str, str]]:
    """Symbols of a library, name or name@version, and their types."""
    lines = output("nm", "--dynamic", "--with-symbol-versions", "--format=posix", which, path).splitlines()
    return [(name, kind) for name, kind, *_ in map(str.split, lines)]


def make(path: Path, answered: dict[str, str]) -> None:
    """Write the stand-in over the library."""
    versions = defaultdict(list)
    for name, version in answered.items():
        versions[version].append(name)
    versions.pop("", None)
    labels = [f".globl {name}\n.type {name}, %function\n{name}:" for name in answered]
    nodes = [f"{version} {{ {'; '.join(names)}; }};" for version, names in versions.items()]
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, script = (Path(folder, name) for name in ("source.s", "source.o", "versions"))
        source.write_text("\n".join([".text", *labels, RETURN_0[platform.machine()], ""]))
        script.write_text("\n".join(nodes or ["{ *; };"]))
        output("as", "--noexecstack", "-o", compiled, source)
        output("ld", "-shared", "-soname", path.name, "--version-script", script, "-o", path, compiled)


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


main()
