"""Downsampling that keeps peaks visible."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_telemetry.frames.envelope import bucket_frames, envelope


def table(values: list[float]) -> pa.Table:
    """One joint's values, a frame each."""
    return pa.table(
        {
            "frame_index": pa.array(range(100, 100 + len(values))),
            "timestamp": pa.array(range(len(values)), pa.timestamp("us", tz="UTC")),
            "observation.a": pa.array(values, pa.float32()),
            "extra": pa.array(["{}"] * len(values)),
        }
    )


@given(st.integers(0, 10**9), st.integers(2, 10**6))
def test_no_more_points_than_asked_for(frames, max_points):
    """Two rows a bucket stay within the limit, and nothing is thinned out that fits."""
    bucket = bucket_frames(frames, max_points)
    assert (bucket == 1) == (frames <= max_points)
    if bucket > 1:
        assert 2 * -(-frames // bucket) <= max_points


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(2, 20))
def test_peaks_survive(values, bucket):
    """Each bucket shows its own least and greatest value, at its first and last frame."""
    thin = envelope(table(values), bucket)
    buckets = [values[start : start + bucket] for start in range(0, len(values), bucket)]
    lows, highs = thin["observation.a"].to_pylist()[::2], thin["observation.a"].to_pylist()[1::2]
    assert lows == [min(one) for one in buckets]
    assert highs == [max(one) for one in buckets]
    starts = range(0, len(values), bucket)
    assert thin["frame_index"].to_pylist()[::2] == [100 + start for start in starts]
    assert thin["frame_index"].to_pylist()[1::2] == [
        100 + start + len(one) - 1 for start, one in zip(starts, buckets, strict=True)
    ]
    assert thin.schema == table(values).schema
    assert thin["extra"].null_count == thin.num_rows


def test_what_is_not_finite_hides_no_peak():
    """NaN stands only where a bucket holds nothing else; an infinity is a peak."""
    values = [math.nan, 1.0, 2.0, math.inf, math.nan, 3.0, math.nan, math.nan, math.nan]
    thin = envelope(table(values), 3)
    assert str(thin["observation.a"].to_pylist()) == str([1.0, 2.0, 3.0, math.inf, math.nan, math.nan])


@pytest.mark.parametrize("cut", [1, 7, 50, 99])
def test_envelope_of_envelopes_is_the_envelope(cut):
    """A bucket too large to be read at once may be thinned out in parts."""
    whole = table(np.random.default_rng(1).normal(size=100).tolist())
    parts = pa.concat_tables([envelope(part, part.num_rows) for part in (whole[:cut], whole[cut:])])
    assert envelope(parts.combine_chunks(), parts.num_rows) == envelope(whole, 100)
