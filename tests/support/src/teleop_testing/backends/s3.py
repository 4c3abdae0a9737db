"""The S3 server of the tests: Ceph's gateway where its packages are installed, else moto's imitation of S3.

TELEOP_TEST_S3 is the address of any other one (`s3://bucket/prefix`, with AWS_* in the environment).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from teleop_testing.backends.ceph import ceph_s3, missing_programs

OWN_SERVER = "TELEOP_TEST_S3"
BUCKET, PREFIX = "robots", "some/prefix"


@dataclass(frozen=True)
class S3Folder:
    """A place on an S3 server.

    client       boto3's
    environment  with which AWS clients reach the server
    address      s3://bucket/prefix
    """

    client: Any
    environment: dict[str, str]
    address: str

    def empty_one(self) -> "S3Folder":
        """A folder below this one where nothing is yet."""
        return S3Folder(self.client, self.environment, f"{self.address}/{uuid4()}")

    def object_keys(self) -> list[str]:
        """Names of all objects here, within the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def remove(self, key: str) -> None:
        """Take an object away, past the store."""
        self.client.delete_object(Bucket=self._bucket, Key=key)

    @property
    def _bucket(self) -> str:
        return self.address.split("/")[2]

    @property
    def _prefix(self) -> str:
        return self.address.split("/", 3)[3]


def which_server() -> str:
    """Which server it is, and why; for people."""
    if own := os.environ.get(OWN_SERVER):
        return own
    if missing := missing_programs():
        return (
            f"moto's imitation, for {', '.join(missing)} can't be found (Debian: ceph-mon ceph-osd radosgw)"
        )
    return "Ceph's gateway"


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3Folder]:
    """A running server at an address of this machine: the folder on it that holds all others."""
    import boto3  # Takes a second, and few tests need it.

    if own := os.environ.get(OWN_SERVER):
        client = boto3.client("s3")
        yield S3Folder(client, {k: value for k, value in os.environ.items() if k.startswith("AWS_")}, own)
        client.close()
        return
    with _moto_s3(host) if missing_programs() else ceph_s3(host) as environment:
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield S3Folder(client, environment, f"s3://{BUCKET}/{PREFIX}")
        client.close()


@contextmanager
def _moto_s3(host: str) -> Iterator[dict[str, str]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()
