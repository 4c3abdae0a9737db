"""Which format a client gets."""

import pytest
from teleop_telemetry.frames.formats import choose_format

JSON, CSV = "application/json", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", JSON),
        ("", JSON),
        (JSON, JSON),
        (CSV, CSV),
        ("text/*", CSV),
        ("TEXT/CSV", CSV),
        (ARROW, ARROW),
        (PARQUET, PARQUET),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        (f"{CSV};q=0.5, {PARQUET}", PARQUET),
        (f"{CSV}; q=0.9 , {JSON};q=0.1", CSV),
        (f"{JSON};q=0, {CSV};q=0.1", CSV),
        (f"{CSV};header=present", CSV),
        ("image/png", None),
        ("text/html", None),
        (f"{JSON};q=0", None),
        (f"{JSON};q=much", None),
    ],
)
def test_accept_chooses_the_format(accept, media_type):
    """The wanted type of the highest quality is served, JSON to whoever takes anything, else none."""
    assert choose_format(accept) == media_type
