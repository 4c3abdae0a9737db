"""Columns beyond state and action: their values, packed as bytes that keep every bit."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

# Not where it is first used: importing it takes 0.1 s and more, for which a robot's loop would stand still.
import numpy as np
from numpy.typing import NDArray
from teleop_schema.columns import MAX_COLUMN_BYTES, MAX_COLUMNS, TEXT, TEXT_SIZE, Column, pack_values

from lerobot_robot_backend.spool.stream import SpoolError


class Columns:
    """The columns of one session, in the order in which they appeared."""

    def __init__(self) -> None:
        self._known: dict[str, Column] = {}

    def declare(self, name: str, dtype: str, shape: Sequence[int], names: Any = None) -> Column | None:
        """The column if it is new, to be declared and then added; raises ValueError saying what is wrong."""
        if name in self._known:
            return None
        if len(self._known) == MAX_COLUMNS:
            raise ValueError(f"{name} is not recorded: a session has at most {MAX_COLUMNS} columns")
        told = {"position": len(self._known), "name": name, "dtype": dtype, "shape": list(shape)}
        try:
            return msgspec.convert(told | {"names": names}, Column)
        except msgspec.ValidationError as error:
            raise ValueError(f"{name} is not recorded: {error}") from error

    def add(self, column: Column) -> None:
        """Add the column, which was declared in the stream: its values may follow."""
        self._known[column.name] = column

    def pack(
        self, values: Mapping[str, Any], extra: Mapping[str, Any] | None, *, tell: Callable[[Column], None]
    ) -> tuple[bytes, Mapping[str, Any] | None]:
        """The columns' packed values, and `extra` together with the values that can't be packed.

        tell  called with a column whose first value appears, to declare and add it; may raise SpoolError
        """
        for name, value in values.items():
            # A value without a column still goes into `extra`: nothing of it is lost.
            with suppress(ValueError, SpoolError):
                if (column := self._infer(name, value)) is not None:
                    tell(column)
        packed, rest = self._pack(values)
        return packed, {**(extra or {}), "columns": rest} if rest else extra

    def _infer(self, name: str, value: Any) -> Column | None:
        """The column that follows from its first value, if it is new; raises ValueError."""
        if name in self._known:
            return None
        if isinstance(value, str):
            return self.declare(name, TEXT, (1,))
        given = np.asarray(value)
        return self.declare(name, given.dtype.name, given.shape or (1,))

    def _pack(self, values: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The packed values of declared columns, and the values that have no column or do not fit theirs."""
        packed: dict[int, bytes] = {}
        texts: dict[int, bytes] = {}
        rest = {}
        left = MAX_COLUMN_BYTES
        for name, value in values.items():
            column = self._known.get(name)
            content = None if column is None else _exactly(value, column)
            if column is None or content is None or len(content) + column.is_text * TEXT_SIZE.size > left:
                rest[name] = value
            else:
                (texts if column.is_text else packed)[column.position] = content
                left -= len(content) + column.is_text * TEXT_SIZE.size
        return (pack_values(packed, texts) if packed or texts else b""), rest


def _exactly(value: Any, column: Column) -> bytes | None:
    """The value in the column's dtype and shape; None if it can't be converted without loss."""
    if column.is_text:
        with suppress(UnicodeEncodeError):  # a lone surrogate
            return value.encode() if isinstance(value, str) else None
        return None
    given: NDArray[Any] = np.asarray(value)
    kind = np.dtype(column.dtype)
    if given.size != column.values or not np.can_cast(given.dtype, kind, "same_kind"):
        return None
    # Floats may be rounded: the column's dtype says how exact its values are.
    kept = given.astype(kind.newbyteorder("<"))
    # An integer must come back as it was: one that overflows is kept beside.
    if kind.kind in "iu" and not np.array_equal(kept, given):
        return None
    return kept.tobytes()
