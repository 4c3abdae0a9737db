"""Which episodes are for training and which for what else. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from math import isclose
from typing import Annotated

from msgspec import Meta
from teleop_schema.errors import BadInput
from teleop_schema.words import counted

from teleop_export.planning.pieces import Piece

# What LeRobot calls the one split that it writes.
ALL = "train"
# train, val, test, and some to spare.
MAX_SPLITS = 8
# 1/3 + 1/3 + 1/3, as people write it with six digits.
SUM_TOLERANCE = 1e-6

SplitName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Split = Annotated[
    dict[SplitName, Annotated[float, Meta(gt=0, le=1)]], Meta(min_length=1, max_length=MAX_SPLITS)
]


def check_split(split: Mapping[str, float]) -> None:
    """Raise BadInput unless the shares add up to 1."""
    total = sum(split.values())
    if not isclose(total, 1, abs_tol=SUM_TOLERANCE):
        raise BadInput(f"the shares of split add up to {total:g}, not 1", field="split")


def split_pieces(
    pieces: Sequence[Piece], split: Mapping[str, float], seed: int
) -> tuple[tuple[Piece, ...], dict[str, tuple[int, int]]]:
    """The pieces in an order in which each split is a range of them, and these ranges.

    split    share of the recorded episodes by name; {}: nothing is split
    returns  within a split, pieces keep their order. All pieces of a recorded episode are in one split: a
             policy must not be judged by the other half of what it was trained on
    raises   BadInput if there are fewer recorded episodes than splits
    """
    if not split:
        return tuple(pieces), {}
    episodes = [
        list(group) for _, group in groupby(pieces, lambda each: (each.session_id, each.episode_index))
    ]
    if len(episodes) < len(split):
        raise BadInput(
            f"{counted(len(episodes), 'episode')} can't be split into {len(split)} parts",
            field="split",
            limit=len(episodes),
            hint="export more episodes, or ask for fewer parts",
        )
    drawn = sorted(range(len(episodes)), key=lambda number: _lot(episodes[number][0], seed))
    found: list[Piece] = []
    ranges: dict[str, tuple[int, int]] = {}
    for name, count in _counts(len(episodes), split).items():
        ours, drawn = drawn[:count], drawn[count:]
        first = len(found)
        found += [piece for number in sorted(ours) for piece in episodes[number]]
        ranges[name] = (first, len(found))
    return tuple(found), ranges


def _lot(piece: Piece, seed: int) -> bytes:
    """A random number that is always the same for an episode, whatever else is exported with it."""
    return hashlib.sha256(f"{seed}/{piece.session_id}/{piece.episode_index}".encode()).digest()


def _counts(episodes: int, split: Mapping[str, float]) -> dict[str, int]:
    """How many episodes each split gets: as near to its share as can be, and at least one."""
    shares = {name: share * episodes for name, share in split.items()}
    counts = {name: max(1, int(share)) for name, share in shares.items()}

    def surplus(name: str) -> float:
        return counts[name] - shares[name]

    while sum(counts.values()) < episodes:
        counts[min(counts, key=surplus)] += 1
    while sum(counts.values()) > episodes:
        counts[max((name for name in counts if counts[name] > 1), key=surplus)] -= 1
    return counts
