"""video-ingest-service that is killed -9 while it takes in a file, at the place that DIES_AT names.

object  the object is in the store, nobody knows
name    the tree has its name, the row is not committed
"""

import os
import signal

from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings
from teleop_runtime.store.local import LocalStore
from teleop_video_ingest.app import create_app
from teleop_video_ingest.files.catalog import Catalog
from teleop_video_ingest.settings import IngestSettings


async def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if os.environ["DIES_AT"] == "object":
        Catalog.accept = die
    else:
        named = LocalStore.name

        async def name_and_die(self: LocalStore, path: str, sha256: str) -> None:
            await named(self, path, sha256)
            await die()

        LocalStore.name = name_and_die
    settings = load_settings(IngestSettings)
    serve(create_app(settings), host=settings.host, port=settings.port)
