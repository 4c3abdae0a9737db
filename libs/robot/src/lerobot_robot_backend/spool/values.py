"""Values of observations and actions as robots give them."""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any


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
        raise ValueError(f"{name} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}, not a number") from error


def within_float32(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values; those that a float32 can't hold become infinite, as in numpy and so in LeRobot."""
    # imported only here, for numbers that hardly any robot has, because importing it is slow
    import numpy as np

    with np.errstate(over="ignore"):
        return tuple(np.array(values, np.float32).tolist())
