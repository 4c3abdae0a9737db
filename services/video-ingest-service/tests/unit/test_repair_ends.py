"""What a repair that gave no answer says about the dataset."""

import signal

import pytest
from teleop_schema.errors import BackendError, Overloaded
from teleop_video_ingest.datasets.repairs import _why
from teleop_video_ingest.errors import NothingRecovered


@pytest.mark.parametrize(
    ("returncode", "kind", "told"),
    [
        (-signal.SIGSEGV, NothingRecovered, "the decoder crashed on it (SIGSEGV)"),
        (-signal.SIGXCPU, NothingRecovered, "the decoder crashed on it (SIGXCPU)"),
        (-signal.SIGKILL, Overloaded, "the repair was killed (SIGKILL)"),
        (-signal.SIGTERM, Overloaded, "the repair was killed (SIGTERM)"),
        (1, BackendError, "by a mistake of its own"),
    ],
)
def test_only_a_crash_of_the_decoder_is_a_verdict(returncode, kind, told):
    """Whatever else ended it: another attempt may succeed."""
    error = _why(returncode)
    assert type(error) is kind
    assert told in error.detail
    assert error.retryable == (kind is not NothingRecovered)
