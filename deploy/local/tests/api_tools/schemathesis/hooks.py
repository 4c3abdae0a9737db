"""What schemathesis has to be told of our media types and methods."""

import schemathesis


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(_context, value):
    """The bytes of an upload, as they are."""
    return value if isinstance(value, bytes) else str(value).encode()
