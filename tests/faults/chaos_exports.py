"""Exports that are made while their workers are hurt."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from chaos_robots import Faults, freeze, kill, stop
from file_accounts import check_rows
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.recorded import record_session
from teleop_testing.robots.teleoperation import FPS
from teleop_testing.waiting import PATIENCE_S, wait_for

# Enough that an export takes about as long as a fault.
FRAMES = 10_000
ROBOT_ID = "exported"
BEGIN_TIMEOUT_S = 2.0
LONGEST_BUILD_S = 0.4

RUNNING = "SELECT count(*) FROM export WHERE status = 'running'"
DONE = "SELECT id, numbers FROM export WHERE status = 'done'"


class Exports:
    """Exports of recorded sessions, and who makes them: a service, and a worker without one.

    hits      how many faults came while as many exports were being made as there are makers
    failures  why exports came to nothing, as they say; these were asked for once more
    """

    def __init__(
        self,
        database_url: str,
        service: ServiceProcess,
        worker: ServiceProcess,
        root: Path,
        chance: random.Random,
    ) -> None:
        self.hits = 0
        self.failures: list[str] = []
        self._database_url = database_url
        self._service = service
        self._makers = {"export": service, "export worker": worker}
        self._root = root
        self._chance = chance
        self._asked: dict[int, dict[str, Any]] = {}
        self._session = record_session(database_url, FRAMES, robot_id=ROBOT_ID)

    def faults(self) -> Faults:
        whole: dict[str, Callable[[], None]] = {}
        for name, process in self._makers.items():
            whole |= {
                f"kill {name}": partial(kill, process, self._chance),
                f"stop {name}": partial(stop, process),
                f"freeze {name}": partial(self._freeze, process),
            }
        return {name: partial(self._while_making, fault) for name, fault in whole.items()}

    async def published_are_whole(self, connection: asyncpg.Connection) -> None:
        """Raise AssertionError if an export is called done that is not all there."""
        for export_id, told in await connection.fetch(DONE):
            numbers = json.loads(told)
            sizes = [path.stat().st_size for path in self.folder(export_id).rglob("*") if path.is_file()]
            found = {"files": len(sizes), "size_bytes": sum(sizes)}
            assert found == {name: numbers[name] for name in found}, f"export {export_id} is done, not whole"

    def folder(self, export_id: int) -> Path:
        """Where that export is published."""
        found = list(self._root.glob(f"export-{export_id}-*"))
        assert len(found) == 1, f"export {export_id} is done, but published in {found}"
        return found[0]

    def ask(self, *sessions: int) -> int:
        """Have an export of all of their frames made, such as nobody has asked for before; its number."""
        request = {"repo_id": f"chaos/n{len(self._asked)}", "session_ids": sessions}
        return self._ask({**request, "fps": FPS, "include_repeated": True})

    async def account(self, filmed: list[int]) -> list[Path]:
        """Wait until all that was asked for is made, and check it; where it is published.

        filmed  sessions with video, of which one more is made
        """
        asked = {export_id: [self._session] for export_id in self._asked}
        if filmed:
            asked[self.ask(*filmed)] = filmed
        for export_id in asked:
            self._wait_until_made(export_id)
        for export_id, sessions in asked.items():
            await check_rows(self.folder(export_id), self._look(export_id), self._database_url, sessions)
        wait_for(lambda: not any((self._root / ".building").iterdir()))
        folders = [self.folder(export_id) for export_id in asked]
        left = set(self._root.glob("export-*")) - set(folders)
        assert not left, f"published, but not done: {left}"
        return folders

    def _while_making(self, fault: Callable[[], None]) -> None:
        """Let the fault come while each of those that make exports makes one, these or earlier ones."""
        for _ in self._makers:
            self.ask(self._session)
        with suppress(AssertionError):
            wait_for(self._all_make, patience_s=BEGIN_TIMEOUT_S)
            time.sleep(self._chance.uniform(0, LONGEST_BUILD_S))
            self.hits += self._all_make()
        fault()

    def _all_make(self) -> bool:
        return asyncio.run(self._count_running()) >= len(self._makers)

    async def _count_running(self) -> int:
        connection = await asyncpg.connect(self._database_url)
        try:
            return int(await connection.fetchval(RUNNING))
        finally:
            await connection.close()

    def _freeze(self, process: ServiceProcess) -> None:
        freeze(process.pid, self._chance)

    def _wait_until_made(self, export_id: int) -> None:
        """Once more is asked for what is said to have failed."""
        for _ in range(2):
            made = wait_for(partial(self._ended, export_id))
            if made["status"] == "done":
                return
            self.failures.append(made["error"]["detail"])
            assert self._ask(self._asked[export_id]) == export_id
        raise AssertionError(f"export {export_id} fails again and again: {self.failures[-2:]}")

    def _ended(self, export_id: int) -> dict[str, Any] | None:
        export = self._look(export_id)
        return export if export["status"] in ("done", "failed") else None

    def _look(self, export_id: int) -> dict[str, Any]:
        answer = httpx.get(f"http://{self._service.address}/exports/{export_id}", timeout=PATIENCE_S)
        return dict(answer.raise_for_status().json())

    def _ask(self, request: dict[str, Any]) -> int:
        answer = httpx.post(f"http://{self._service.address}/exports", json=request, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text
        export_id = int(answer.json()["id"])
        self._asked[export_id] = request
        return export_id
