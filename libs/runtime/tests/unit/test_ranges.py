"""Range headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_runtime.serving.ranges import names_etag, wanted_range
from teleop_schema.errors import BadRange


@given(size=st.integers(1, 2000), data=st.data())
def test_each_form_names_the_bytes_that_the_rfc_says(size, data):
    """`first-last`, `first-` and `-suffix`, against slices of the file."""
    content = bytes(index % 251 for index in range(size))
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 2 * size))
    suffix = data.draw(st.integers(1, 2 * size))
    expected = {
        f"bytes={first}-{last}": content[first : last + 1],
        f"bytes={first}-": content[first:],
        f"bytes=-{suffix}": content[-suffix:],
    }
    for header, part in expected.items():
        found = wanted_range(header, size)
        assert found is not None
        assert content[slice(*found)] == part


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=0-1,3-4",
        "items=0-5",
        "bytes=a-b",
        "bytes=--1",
    ],
)
def test_what_is_no_single_range_means_the_whole_file(header):
    """The RFC lets a server ignore what it does not understand."""
    assert wanted_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_behind_the_end_is_refused(header, size):
    """With the size, so that the client can ask again."""
    with pytest.raises(BadRange) as caught:
        wanted_range(header, size)
    assert (caught.value.field, caught.value.limit) == ("Range", size)


def test_if_none_match():
    """A list of tags, weak ones too, or any."""
    assert names_etag('"a", W/"b"', '"b"')
    assert names_etag("*", '"b"')
    assert not names_etag('"ab"', '"b"')
    assert not names_etag("", '"b"')
