"""Exact quantiles of columns that are too long for memory."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from teleop_dataset.v3.stats import LEVELS, Floats, Integers, Values, interpolate, ranks

# Bits per pass: 32-bit values take two passes with 65,536 counters each.
DIGIT_BITS = 16
# If values are fewer than counters by this factor, they are counted one by one.
FEW = 8
# All counters of a dataset's quantiles together; features with thousands of values take more passes.
COUNTER_BYTES = 128 * 1024 * 1024


class Selection:
    """Exact quantiles of one column that is too long for memory, found in a few passes over it.

    Radix selection: a pass counts, for each order statistic looked for, the next bits of those values that
    agree with it so far. Float32 takes two passes (three if there are many columns), others as many as their
    range needs.
    """

    def __init__(self, *, base: int, span_bits: int, digit_bits: int, kind: type[np.generic]) -> None:
        self._base = base
        self._kind = kind
        self._bits = digit_bits
        self._shift = max(0, math.ceil(span_bits / digit_bits) - 1) * digit_bits
        self._prefix: dict[int, int] = {}
        self._remaining: dict[int, int] = {}
        self._counts = {0: np.zeros(1 << digit_bits, np.int64)}
        self._first_pass = True
        self.done = False

    @classmethod
    def of_floats(cls, columns: int = 1) -> "Selection":
        """For float32 values, about which nothing is known yet; `columns`:
        number of columns in the dataset."""
        return cls(base=0, span_bits=32, digit_bits=_digit_bits(32, columns), kind=np.float32)

    @classmethod
    def between(cls, low: np.generic, high: np.generic, columns: int = 1) -> "Selection":
        """For values from `low` to `high`, which are of one of KINDS."""
        base, top = (int(_keys(np.array([each]))[0]) for each in (low, high))
        bits = (top - base).bit_length()
        return cls(base=base, span_bits=bits, digit_bits=_digit_bits(max(bits, 1), columns), kind=type(low))

    @property
    def passes_left(self) -> int:
        """How many more times all values must be fed."""
        return 0 if self.done else self._shift // self._bits + 1

    def feed(self, values: Values) -> None:
        """Count some of the column's finite `values`, (L,) of its kind; a pass feeds each of them once,
        in any order."""
        keys = _keys(values)
        keys -= keys.dtype.type(self._base)
        leading = None if self._first_pass else keys >> (self._shift + self._bits)
        for prefix, counts in self._counts.items():
            alike = keys if leading is None else keys[leading == prefix]
            digits = ((alike >> self._shift) & (len(counts) - 1)).astype(np.intp)
            if len(digits) * FEW < len(counts):
                np.add.at(counts, digits, 1)
            else:
                counts += np.bincount(digits, minlength=len(counts))

    def end_pass(self) -> None:
        """Settle the next bits of every order statistic."""
        if self._first_pass and not self._counts[0].any():
            self.done = True
            return
        if self._first_pass:
            below, above, _ = self._ranks = ranks(self._counts[0].sum(keepdims=True))
            wanted = np.unique([below, above]).tolist()
            self._prefix, self._remaining = dict.fromkeys(wanted, 0), {rank: rank for rank in wanted}
            self._first_pass = False
        for rank, prefix in self._prefix.items():
            reached = np.cumsum(self._counts[prefix])
            digit = int(np.searchsorted(reached, self._remaining[rank], side="right"))
            self._remaining[rank] -= int(reached[digit - 1]) if digit else 0
            self._prefix[rank] = prefix << self._bits | digit
        self._counts = {prefix: np.zeros(1 << self._bits, np.int64) for prefix in self._prefix.values()}
        self.done = self._shift == 0
        self._shift -= self._bits

    def quantiles(self) -> Floats:
        """One value per quantile, 0 if there was none; only once `done`."""
        if self._first_pass:
            return np.zeros(len(LEVELS))
        found = {rank: _value(prefix + self._base, self._kind) for rank, prefix in self._prefix.items()}
        return _between(found, *self._ranks)


class Ordered:
    """Exact quantiles of `count` values, at least one, that never descend, so that their ranks are known."""

    def __init__(self, count: int) -> None:
        self._ranks = ranks(np.array([count]))
        self._wanted = np.unique(self._ranks[:2]).tolist()
        self._found: dict[int, np.generic] = {}
        self._seen = 0
        self.done = False

    @property
    def passes_left(self) -> int:
        """How many more times all values must be fed."""
        return 0 if self.done else 1

    def feed(self, values: Values) -> None:
        """Read the next values; a single pass has all of them, in order."""
        for rank in self._wanted:
            if self._seen <= rank < self._seen + len(values):
                self._found[rank] = values[rank - self._seen]
        self._seen += len(values)

    def end_pass(self) -> None:
        """All values were fed."""
        self.done = True

    def quantiles(self) -> Floats:
        """One value per quantile; only once `done`."""
        return _between(self._found, *self._ranks)


def _between(found: Mapping[int, Any], below: Integers, above: Integers, weights: Floats) -> Floats:
    """The quantiles, of the values at these ranks, which are `found`."""
    lower, upper = (np.array([found[rank] for rank in each[0].tolist()]) for each in (below, above))
    return interpolate(lower, upper, weights[0])


def _keys(values: Values) -> npt.NDArray[Any]:
    """Unsigned integers in the order of `values`; IEEE 754 floats compare like their bits, signs apart."""
    if values.dtype == np.float32:
        bits = values.view(np.int32)
        return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)
    if values.dtype == np.float64:
        wide = (values + 0.0).view(np.int64)  # -0.0, which is no less than 0.0, becomes it
        return (wide ^ ((wide >> 63) | np.int64(-(2**63)))).view(np.uint64)
    if values.dtype == np.uint64:
        return values.copy()
    return (values ^ np.int64(-(2**63))).view(np.uint64)


def _value(key: int, kind: type[np.generic]) -> Any:
    """The value that has `key`."""
    if kind is np.float32:
        bits = key ^ 0x80000000 if key >> 31 else key ^ 0xFFFFFFFF
        return np.array([bits], np.uint32).view(np.float32)[0]
    if kind is np.float64:
        wide = key ^ 2**63 if key >> 63 else key ^ (2**64 - 1)
        return np.array([wide], np.uint64).view(np.float64)[0]
    return np.uint64(key) if kind is np.uint64 else np.int64(key - 2**63)


def _digit_bits(span_bits: int, columns: int) -> int:
    """How many of `span_bits` a pass settles, so that there are few passes, and each settles about as many.

    Each column counts up to two order statistics for each quantile.
    """
    each_bytes = COUNTER_BYTES // (columns * 2 * len(LEVELS) * np.dtype(np.int64).itemsize)
    most = max(1, min(DIGIT_BITS, each_bytes.bit_length() - 1))
    return math.ceil(span_bits / math.ceil(span_bits / most))
