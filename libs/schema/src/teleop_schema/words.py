"""The wording for frames that an export leaves out, in reports and on a terminal. Pure."""


def told_frames(first: int, end: int, count: int) -> str:
    """Text for `count` of the frames `first` to `end - 1` of a session."""
    some = "" if count == end - first else f"{count} of the "
    return f"{some}frames {first} to {end - 1}"
