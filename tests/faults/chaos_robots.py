"""Robots that stream through the line to two replicas of telemetry-service, and what may hurt them."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from accounts import check, check_video, wait_for_ledgers, wait_until_filed, wait_until_recorded
from file_accounts import Stored
from lerobot_robot_backend.spool.stream import read_progress
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.robots.children import ENCODER, SHIPPER, VIDEO_SHIPPER
from teleop_testing.robots.teleoperation import Teleoperation
from teleop_testing.waiting import PATIENCE_S, wait_for

ROBOTS = 3
# An encoder takes as much of the processor as ten robots without a camera.
WITH_CAMERA = 1
LONGEST_FREEZE_S = 2.0

Faults = dict[str, Callable[[], object]]


class Robots:
    """Teleoperations, of which each notes what it has logged.

    ended  those that are over, and how the backend has to call that
    """

    def __init__(
        self, address: str, folder: Path, services: list[ServiceProcess], chance: random.Random
    ) -> None:
        self.folders = [folder / f"robot_{number}" for number in range(ROBOTS)]
        self.ended: list[tuple[Teleoperation, str]] = []
        self.pictures = 0
        self._address = address
        self._services = services
        self._chance = chance
        for path in self.folders:
            path.mkdir()
        self.robots = [self._teleoperate(number) for number in range(ROBOTS)]

    def faults(self) -> Faults:
        found: Faults = {
            "kill telemetry": lambda: kill(self._chance.choice(self._services), self._chance),
            "stop telemetry": lambda: stop(self._chance.choice(self._services)),
            "freeze telemetry": lambda: freeze(self._chance.choice(self._services).pid, self._chance),
            "kill teleoperation": self._kill_teleoperation,
            "kill robot": lambda: self._kill_teleoperation(with_children=True),
            "kill shipper": lambda: self._chance.choice(self.robots).signal(SHIPPER, signal.SIGKILL),
        }
        for name, module in (("encoder", ENCODER), ("video shipper", VIDEO_SHIPPER)):
            found[f"kill {name}"] = partial(self._signal_filming, module, signal.SIGKILL)
            found[f"freeze {name}"] = partial(self._freeze_filming, module)
        return found

    def acknowledged(self) -> dict[str, int]:
        """Stream -> frames that its robot was told are safe."""
        return {robot.stream: read_progress(robot.stream_dir).next for robot in self.robots}

    def wait_until_current(self) -> float:
        """Return once all that was logged until now is acknowledged; how many seconds that took."""
        begun_s = time.monotonic()
        logged = {robot: len(robot.logged()) for robot in self.robots}

        def all_there() -> bool:
            return all(read_progress(robot.stream_dir).next >= frames for robot, frames in logged.items())

        wait_for(all_there)
        return time.monotonic() - begun_s

    def end(self) -> None:
        """End them as Ctrl-C does, after a while in which nothing happened to them."""
        for robot in self.robots:
            robot.wait_for_frames(30)
            robot.close()
            self.ended.append((robot, "complete"))

    async def account(self, database_url: str, stored: Stored | None) -> tuple[int, list[int]]:
        """Wait until all is shipped, check every frame and picture; how many frames, sessions with video.

        stored  where the backend keeps files; None: it takes none
        """
        for robot, status in self.ended:
            if stored is None:
                wait_until_recorded(robot)
            else:
                await wait_until_filed(robot, database_url, stored)
            self.pictures += check_video(robot, status=status)
        streams = [robot.stream for robot, _ in self.ended]
        ledgers = wait_for_ledgers(self._services[0].address, streams, PATIENCE_S)
        frames, filmed = 0, []
        for robot, status in self.ended:
            ledger = ledgers[robot.stream]
            await check(database_url, ledger, robot, status=status, filed=stored is not None)
            frames += ledger["committed"]
            if robot.has_camera and status == "complete" and stored is not None:
                filmed.append(ledger["session_id"])
        return frames, filmed

    def end_all(self) -> None:
        """Kill whatever of them is left."""
        for robot in (*self.robots, *(robot for robot, _ in self.ended)):
            robot.kill()
            robot.end_children()

    def _signal_filming(self, module: str, number: int) -> bool:
        """Whether the robot with a camera had such a process."""
        return self._chance.choice(self.robots[:WITH_CAMERA]).signal(module, number)

    def _freeze_filming(self, module: str) -> None:
        robot = self._chance.choice(self.robots[:WITH_CAMERA])
        if robot.signal(module, signal.SIGSTOP):
            time.sleep(self._chance.uniform(0.2, LONGEST_FREEZE_S))
            robot.signal(module, signal.SIGCONT)

    def _kill_teleoperation(self, *, with_children: bool = False) -> None:
        """What it leaves, its shippers bring, or without them the next teleoperation, or the agent."""
        number = self._chance.randrange(ROBOTS)
        self.robots[number].wait_for_frames(10)
        self.robots[number].kill()
        if with_children:
            self.robots[number].end_children()
        self.ended.append((self.robots[number], "interrupted"))
        self.robots[number] = self._teleoperate(number)

    def _teleoperate(self, number: int) -> Teleoperation:
        folder = self.folders[number]
        return Teleoperation(self._address, folder.name, folder, camera=number < WITH_CAMERA)


def kill(service: ServiceProcess, chance: random.Random) -> None:
    """kill -9; it is back after a moment."""
    service.kill()
    time.sleep(chance.uniform(0, 0.5))
    service.start()


def stop(service: ServiceProcess) -> None:
    """SIGTERM; it is back once it has ended."""
    service.stop()
    service.start()


def freeze(pid: int, chance: random.Random) -> None:
    """SIGSTOP of a child of this process, for a moment."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(0.2, LONGEST_FREEZE_S))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
