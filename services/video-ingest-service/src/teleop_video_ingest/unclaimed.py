"""`python -m teleop_video_ingest.unclaimed`: files in the store that the database does not know.

They come from a process that died, or from a database that was restored to an older state. They are kept:
robots that still have them claim them by sending them again. This command lists the rest, with their names in
the store. `--remove` removes them for good.
"""

import asyncio
import sys

from teleop_runtime.postgres.pool import connected, open_pool
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.settings import load_settings
from teleop_runtime.store import Store, open_store
from teleop_schema.commands.command_line import Parser
from teleop_schema.words import counted

from teleop_video_ingest.settings import IngestSettings
from teleop_video_ingest.tables import sweep_table
from teleop_video_ingest.upkeep.ownership import claim
from teleop_video_ingest.upkeep.sweep import remove_unreferenced

# Time limit for comparing all objects with all rows.
READ_TIMEOUT_S = 300.0
# One connection reads, the other writes.
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
            return "\n".join([*lines, f"unclaimed: {counted(len(found), 'object')}, {total_bytes} bytes"])
        removed = 0
        for sha256, _ in found:
            if await remove_unreferenced(pool, store, sha256):
                removed += 1
                # On a disk, a name is a link that keeps the bytes as long as it exists.
                for path in names.get(sha256, []):
                    await store.unname(path)
        return f"{counted(removed, 'object')} removed"


async def names_of(store: Store, objects: set[str]) -> dict[str, list[str]]:
    """The names of these objects in the store's tree, with their dataset, or session and camera."""
    names: dict[str, list[str]] = {}
    if objects:
        async for path, sha256 in store.list_names():
            if sha256 in objects:
                names.setdefault(sha256, []).append(path)
    return names


if __name__ == "__main__":
    sys.exit(main())
