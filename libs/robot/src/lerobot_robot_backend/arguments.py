"""Checks the arguments of TelemetryClient, and says what is wrong with them. Pure."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

CAMERAS = "a dictionary, for example {'front': Camera(height=480, width=640, fps=30.0)}"
_VALUES = "a dictionary of names and values, for example {'shoulder_pan.pos': 1.5}"


def check_rate(fps: Any) -> float:
    """`fps` as a float; raises ValueError."""
    try:
        rate = float(fps)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"fps is {fps!r}; give the rate of the loop in Hz, above 0, for example 30")
    return rate


def check_names(field: str, names: Any) -> tuple[str, ...]:
    """Names of a vector's values; raises ValueError."""
    if isinstance(names, str | bytes) or not isinstance(names, Sequence):
        raise ValueError(f"{field} is {names!r}; give a list of names, for example ['shoulder_pan.pos']")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{field} has {name!r}; a name is a text, for example 'shoulder_pan.pos'")
    return tuple(names)


def check_mapping(field: str, given: Any, what: str = _VALUES) -> dict[str, Any]:
    """A dictionary, {} for None; raises ValueError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{field} is {_shown(given)}; give {what}")
    return dict(given)


def check_whole(field: str, given: Any, what: str, *, least: int = 0) -> int:
    """A whole number; raises ValueError."""
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or not least <= number < 2**63:
        raise ValueError(f"{field} is {given!r}; give {what}, a whole number from {least} on")
    return number


def check_text(field: str, given: Any) -> str:
    """A text; raises ValueError."""
    if not isinstance(given, str):
        raise ValueError(f"{field} is {given!r}; give a text")
    return given


def check_frame(
    observation: Any,
    action: Any,
    beside: Mapping[str, Any],
    captured_us: Any,
    observation_age_us: Any,
) -> None:
    """Raise ValueError for the first argument of `log` that has the wrong type.

    beside  name -> value of each argument that may be None
    """
    for field, given in (("observation", observation), ("action", action)):
        if not isinstance(given, Mapping):
            raise ValueError(f"{field} is {_shown(given)}; give {_VALUES}")
    for field, given in beside.items():
        check_mapping(field, given, "a dictionary of names and values")
    if captured_us is not None:
        check_whole("captured_us", captured_us, "microseconds since the Unix epoch", least=-(2**63))
    check_whole("observation_age_us", observation_age_us, "microseconds")


def _shown(given: Any) -> str:
    """A short text for any value, even a picture."""
    return repr(given) if isinstance(given, int | float | str | None) else f"a {type(given).__name__}"
