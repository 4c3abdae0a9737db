"""Recorded video that video-ingest-service keeps on S3 (moto's server)."""

from collections.abc import Iterator

import av
import boto3
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from moto.server import ThreadedMotoServer

BUCKET = "robots"


@pytest.fixture
def store() -> Iterator[str]:
    """A bucket, which the environment leads to, in place of a folder."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/some/prefix"
    server.stop()


async def test_pictures_come_from_s3(backend, record, film):
    """Segments are fetched one after the other, and every picture is in its place."""
    session = await record(240, episodes=[(0, 90), (90, 240)])
    await film(session, 240, segment=10)
    export, folder = await backend.export(session)
    assert export["report"]["cameras"][0]["copied"] == 2
    with av.open(str(folder / "videos/observation.images.front/chunk-000/file-000.mp4")) as file:
        shown = [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    assert shown == list(range(120))


async def test_lost_object_fails_the_export(backend, record, film, store):
    """As with a folder."""
    session = await record(60)
    await film(session, 60)
    bucket = boto3.resource("s3").Bucket(BUCKET)
    bucket.objects.delete()
    export = await backend.ended((await backend.ask(session))["id"])
    assert (export["status"], export["error"]["code"]) == ("failed", "object_missing")
