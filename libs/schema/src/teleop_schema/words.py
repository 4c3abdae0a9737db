"""Wording that reports and terminals share: counts, sizes, frames left out, and episodes cut off. Pure."""

import unicodedata

_UNITS = ("B", "kB", "MB", "GB", "TB")
CUT_OFF = "its recorder died before the episode was saved"


def counted(count: int, noun: str) -> str:
    """`1 episode`, `2 episodes`: the number with its noun, which is told in the singular."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shown(text: str) -> str:
    """The text as one line for a terminal or a log, whoever has written it: what can't be seen, or changes
    what is seen (line breaks, escape sequences, marks of direction), is escaped."""
    if text.isprintable():
        return text
    return "".join(each if _is_visible(each) else each.encode("unicode_escape").decode() for each in text)


def shown_lines(text: str) -> str:
    """The same of several lines."""
    return "\n".join(map(shown, text.split("\n")))


def _is_visible(character: str) -> bool:
    # Python counts no space but the common one.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def size_text(size_bytes: float) -> str:
    """Bytes for people: "12.3 MB"."""
    size, units = float(size_bytes), iter(_UNITS)
    unit = next(units)
    while size >= 1000 and (larger := next(units, None)) is not None:
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def told_frames(first: int, end: int, count: int) -> str:
    """Text for `count` of the frames `first` to `end - 1` of a session."""
    some = "" if count == end - first else f"{count} of the "
    return f"{some}frames {first} to {end - 1}"


def told_cut_off(session_id: int, episode_index: int) -> str:
    """Text for an exported episode whose end nobody told, and how to leave it out."""
    return (
        f"cut off: episode {episode_index} of session {session_id}: {CUT_OFF}; to leave it out, give it the "
        f'outcome "discarded" (PATCH /sessions/{session_id}/episodes/{episode_index})'
    )
