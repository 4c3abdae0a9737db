"""The messages are what protobuf itself makes of the same values."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from teleop_export.raw.foxglove import joint_states


@pytest.mark.parametrize("taken_us", [0, 1_700_000_000_123_456, -1, -62_135_596_800_000_000])
def test_moments(taken_us):
    """Moments before 1970, as a robot without a clock has them, too."""
    seconds, rest_us = divmod(taken_us, 1_000_000)
    moment = Timestamp(seconds=seconds, nanos=rest_us * 1000).SerializeToString()
    message = joint_states(taken_us, [], [])
    assert message[0] == 1 << 3 | 2
    assert message[1] == len(message) - 2
    assert Timestamp.FromString(message[2:]) == Timestamp.FromString(moment)
