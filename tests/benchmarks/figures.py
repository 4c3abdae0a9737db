"""What a benchmark returns: figures, each with what it is compared with in the same run."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number.

    name     what was measured, in words
    value    the number, in `unit`
    aim      what the design wants, in words ("<= 250 ms", ">= 0.4"); None where there is no aim
    reached  whether the aim was met; None where there is no aim
    """

    name: str
    value: float
    unit: str
    aim: str | None = None
    reached: bool | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def at_least(name: str, value: float, unit: str, aim: float) -> Figure:
    return Figure(name, float(value), unit, f">= {aim:g}", bool(value >= aim))


def at_most(name: str, value: float, unit: str, aim: float) -> Figure:
    return Figure(name, float(value), unit, f"<= {aim:g}", bool(value <= aim))
