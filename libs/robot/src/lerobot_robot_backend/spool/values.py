"""Values of observations and actions as robots give them."""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np


def differ(sent: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether the robot did something other than it was told."""
    try:
        return bool(sent != asked)
    except Exception:  # arrays whose comparison is not a single truth value
        return True


def picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A function that takes the values of `names`, in this order, from a mapping; it raises KeyError."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda given: tuple(given[name] for name in names)


def number(name: str, value: Any) -> float:
    """`value` as a number, converted as LeRobot does: True is 1, None is NaN. Raises ValueError naming it."""
    if value is None:
        return math.nan
    if isinstance(value, str | bytes):
        raise ValueError(_not_a_number(name, value))
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError) as error:
        raise ValueError(_not_a_number(name, value)) from error


def _not_a_number(name: str, value: Any) -> str:
    # Without the value, which changes from frame to frame: this is the reason of a gap, and one reason is one
    # gap.
    return f"{name} is of type {type(value).__name__}, not a number"


def within_float32(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values; those that a float32 can't hold become infinite, as in numpy and so in LeRobot."""
    with np.errstate(over="ignore"):
        return tuple(np.array(values, np.float32).tolist())
