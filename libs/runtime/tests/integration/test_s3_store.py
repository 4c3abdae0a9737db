"""What the store on S3 makes of answers that never come."""

import os
from functools import partial

import obstore
import pytest
from teleop_runtime.store import StoreUnusable, open_store
from teleop_testing.datasets.files import sha256_of
from teleop_testing.datasets.storing import begun, content_of

CONTENT = os.urandom(12 * 1024 * 1024)
SHA256 = sha256_of(CONTENT)


@pytest.fixture
def store(s3_folder):
    """A store on an empty folder."""
    return open_store(s3_folder.address)


@pytest.mark.parametrize("completed", [True, False])
async def test_a_lost_answer_to_the_completion_of_a_large_object(store, monkeypatch, completed):
    """Asked again, S3 knows of no such upload; whether it was completed, the object tells."""
    put = obstore.put_async

    async def lose_the_answer(*what, use_multipart, **how):
        if completed or not use_multipart:
            await put(*what, use_multipart=use_multipart, **how)
        if use_multipart:
            raise FileNotFoundError("NoSuchUpload")

    upload_id = await begun(store, CONTENT)
    finish = partial(store.finish, upload_id, sha256=SHA256, size_bytes=len(CONTENT))
    with monkeypatch.context() as line:
        line.setattr(obstore, "put_async", lose_the_answer)
        if completed:
            await finish()
        else:
            with pytest.raises(StoreUnusable):
                await finish()
    if not completed:
        await finish()
    assert await content_of(store, SHA256) == CONTENT


async def test_a_large_object_that_is_there_is_not_put_again(store, monkeypatch):
    """S3 may take longer to complete it than anybody waits: then each new attempt would take as long."""
    upload_id = await begun(store, CONTENT)
    finish = partial(store.finish, upload_id, sha256=SHA256, size_bytes=len(CONTENT))
    await finish()
    with monkeypatch.context() as line:
        line.setattr(obstore, "put_async", None)
        await finish()


async def test_a_large_object_that_is_damaged_is_put_again(store, s3_folder):
    """It has the right name and size, and other bytes."""
    upload_id = await begun(store, CONTENT)
    finish = partial(store.finish, upload_id, sha256=SHA256, size_bytes=len(CONTENT))
    await finish()
    (key,) = [key for key in s3_folder.object_keys() if key.endswith(SHA256)]
    s3_folder.client.put_object(Bucket=s3_folder.address.split("/")[2], Key=key, Body=bytes(len(CONTENT)))
    await finish()
    assert await content_of(store, SHA256) == CONTENT
