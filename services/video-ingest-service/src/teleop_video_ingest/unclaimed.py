"""`python -m teleop_video_ingest.unclaimed`: files of the store that its database knows nothing of.

A process that died, or a database that was restored to an older state, leaves them. They are kept: robots
that still have them claim them when they send them again. What remains after that is listed with the names
under which it lies there. `--remove` removes them, which can't be undone.
"""

import asyncio
import sys

from teleop_runtime.postgres.pool import connected, open_pool
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.settings import load_settings
from teleop_runtime.store import Store, open_store
from teleop_schema.commands.command_line import Parser

from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.tables import sweep_table
from teleop_video_ingest.upkeep.ownership import claim
from teleop_video_ingest.upkeep.sweep import remove_unreferenced

# Compares all objects with all rows.
READ_TIMEOUT_S = 300.0
# One that reads, one that writes.
CONNECTIONS = 2


def main() -> int:
    """Exit status 0 if it was done, 1 if the store belongs to another database."""
    parser = Parser(prog="python -m teleop_video_ingest.unclaimed", description=__doc__)
    parser.add_argument("--remove", action="store_true", help="delete them for good; default: only list them")
    chosen = parser.parse_args()
    settings = load_settings(IngestSettings)
    try:
        print(asyncio.run(_run(settings, remove=chosen.remove)))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _run(settings: IngestSettings, *, remove: bool) -> str:
    store = await asyncio.to_thread(open_store, settings.store_url)
    async with open_pool(settings.database_url, max_size=CONNECTIONS) as pool:
        await claim(pool, store, settings.store_url)
        async with connected(pool, timeout_s=READ_TIMEOUT_S) as connection:
            found = await sweep_table.unclaimed(connection)
        names = await names_of(store, {sha256 for sha256, _ in found})
        if not remove:
            lines = [
                "  ".join([sha256, f"{size_bytes} bytes", *names.get(sha256, ["unnamed"])])
                for sha256, size_bytes in found
            ]
            total_bytes = sum(size_bytes for _, size_bytes in found)
            return "\n".join([*lines, f"{len(found)} objects, {total_bytes} bytes, are unclaimed"])
        removed = 0
        for sha256, _ in found:
            if await remove_unreferenced(pool, store, sha256):
                removed += 1
                # On a disk a name is a link: as long as it is there, so are the bytes.
                for path in names.get(sha256, []):
                    await store.unname(path)
        return f"{removed} objects removed"


async def names_of(store: Store, objects: set[str]) -> dict[str, list[str]]:
    """What these objects are called in the store's tree: of which dataset, or which session and camera."""
    names: dict[str, list[str]] = {}
    if objects:
        async for path, sha256 in store.list_names():
            if sha256 in objects:
                names.setdefault(sha256, []).append(path)
    return names


if __name__ == "__main__":
    sys.exit(main())
