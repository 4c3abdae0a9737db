"""What is said of a bucket that does not do what it is asked."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from obstore.store import S3Store
from teleop_runtime.store import StoreUnusable
from teleop_runtime.store.s3_bucket import Bucket


def bucket_at(endpoint):
    """One that asks once, and waits a second."""
    store = S3Store(
        "b",
        endpoint=endpoint,
        access_key_id="key",
        secret_access_key="secret",
        client_options={"allow_http": True, "timeout": timedelta(seconds=1)},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    return Bucket(store)


@asynccontextmanager
async def answering(status, code):
    """The address of a server that answers everything like this; None: it never does."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if status is not None:
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        ("503 Slow", "SlowDown", "SlowDown"),
        ("403 Forbidden", "AccessDenied", "AccessDenied"),
        ("404 Not Found", "NoSuchBucket", "NoSuchBucket"),
        ("507 Full", None, "it answers 507 Insufficient Storage"),
        (None, None, "it does not answer"),
    ],
)
async def test_why_it_can_not_be_used(status, code, told):
    """In S3's words where it has any, without the address."""
    async with answering(status, code) as endpoint:
        with pytest.raises(StoreUnusable) as failure:
            await bucket_at(endpoint).small("x")
    assert str(failure.value).endswith(f": {told}")


async def test_a_server_that_is_not_there():
    """In the system's words."""
    async with answering(None, None) as endpoint:
        pass
    with pytest.raises(StoreUnusable, match="Connection refused"):
        await bucket_at(endpoint).small("x")


async def test_an_object_that_is_not_there_is_no_trouble():
    """The bucket is there."""
    async with answering("404 Not Found", "NoSuchKey") as endpoint:
        assert await bucket_at(endpoint).small("x") is None
