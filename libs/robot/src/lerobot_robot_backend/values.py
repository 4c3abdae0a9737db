"""Values of observations and actions as robots give them."""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any


def differ(sent: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether the robot did something else than it was asked for."""
    try:
        return bool(sent != asked)
    except Exception:  # arrays that do not compare to one truth
        return True


def picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Takes the values of `names`, in this order, out of a mapping; what it gives raises KeyError."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda given: tuple(given[name] for name in names)


def number(name: str, value: Any) -> float:
    """`value` as a float; raises ValueError naming it."""
    if isinstance(value, bool | str | bytes) or type(value).__name__ in ("bool", "bool_"):
        raise ValueError(f"{name} is {value!r}, not a number")
    try:
        converted = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is beyond a float32") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}, not a number") from error
    if not math.isfinite(converted):
        raise ValueError(f"{name} is {converted}, not a finite number")
    return converted
