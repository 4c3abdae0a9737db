"""Every kind of bytes that was thought of, or that `make fuzz` has found, and thousands made of them."""

import random
from pathlib import Path

import pytest
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
CASES = [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]
# Of each file: enough to reach most branches, and a second for all of a target.
CHANGED = 40


def test_every_target_has_a_corpus():
    assert {name for name, _ in CASES} == set(TARGETS)


@pytest.mark.parametrize(("target", "path"), CASES, ids=[f"{name}-{path.name}" for name, path in CASES])
def test_it_is_read_or_refused(target, path):
    """As it is, and with some of its bytes changed, left out or doubled."""
    content = path.read_bytes()
    TARGETS[target](content)
    chance = random.Random(path.name)
    for _ in range(CHANGED):
        TARGETS[target](changed(content, chance))


def changed(content: bytes, chance: random.Random) -> bytes:
    """Bytes that are nearly `content`."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8)))
        kind = chance.randrange(4)
        if kind == 0:
            data[at:end] = chance.randbytes(end - at)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        else:
            data[at:end] = chance.choice((b"\0", b"\xff")) * (end - at)
    return bytes(data)
