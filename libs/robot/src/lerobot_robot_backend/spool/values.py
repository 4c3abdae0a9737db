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
    """`value` as LeRobot makes a number of it: True is 1, None is NaN. Raises ValueError naming it."""
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
    """The values, infinite where a float32 can't hold them, as numpy and so LeRobot has it."""
    import numpy as np  # only here, for numbers that hardly any robot has: importing it takes long

    with np.errstate(over="ignore"):
        return tuple(np.array(values, np.float32).tolist())
