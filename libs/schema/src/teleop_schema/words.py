"""How what an export leaves out is put into words, in reports and on a terminal. Pure."""


def told_frames(first: int, end: int, count: int) -> str:
    """`count` of the frames `first` to `end - 1` of a session."""
    some = "" if count == end - first else f"{count} of the "
    return f"{some}frames {first} to {end - 1}"
