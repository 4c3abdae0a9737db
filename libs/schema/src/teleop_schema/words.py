"""Wording that reports and terminals share: counts of things, and frames that are left out. Pure."""


def counted(count: int, noun: str) -> str:
    """`1 episode`, `2 episodes`: the number with its noun, which is told in the singular."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def told_frames(first: int, end: int, count: int) -> str:
    """Text for `count` of the frames `first` to `end - 1` of a session."""
    some = "" if count == end - first else f"{count} of the "
    return f"{some}frames {first} to {end - 1}"
