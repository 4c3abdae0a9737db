"""What people type, as it is stored. Pure."""

from collections.abc import Iterable


def stripped(text: str | None) -> str | None:
    """Without space around it; None if nothing is left."""
    return (text or "").strip() or None


def stripped_all(texts: Iterable[str]) -> list[str]:
    """Each once, in their order, without those that are blank."""
    return list(dict.fromkeys(text for each in texts if (text := stripped(each))))
