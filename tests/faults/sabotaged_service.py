"""telemetry-service with a defect built in, named by SABOTAGE: what the chaos runner has to catch."""

import os
import runpy

import teleop_runtime.postgres.pool
from teleop_telemetry.frames.block import FrameBlock
from teleop_telemetry.receiving.writer import Writer


def acknowledge_before_commit() -> None:
    """Frames count as durable as soon as they have arrived."""
    hold = Writer.hold

    def hold_and_acknowledge(self: Writer, block: FrameBlock) -> None:
        hold(self, block)
        self.succeed(block.end)

    Writer.hold = hold_and_acknowledge


def commit_without_waiting_for_the_disk() -> None:
    """PostgreSQL answers a COMMIT before it is on disk."""
    wanted = teleop_runtime.postgres.pool.PREPARE
    teleop_runtime.postgres.pool.PREPARE = wanted.replace(
        "'synchronous_commit', 'on'", "'synchronous_commit', 'off'"
    )
    teleop_runtime.postgres.pool.DURABLE = ("off",)
    assert wanted != teleop_runtime.postgres.pool.PREPARE


if __name__ == "__main__":
    globals()[os.environ["SABOTAGE"]]()
    runpy.run_module("teleop_telemetry", run_name="__main__")
