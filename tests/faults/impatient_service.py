"""telemetry-service that gives a commit up after seconds, not half a minute, so that tests need not wait."""

import runpy

from teleop_telemetry.tables import frame_table

frame_table.COMMIT_TIMEOUT_S = 4.0

if __name__ == "__main__":
    runpy.run_module("teleop_telemetry", run_name="__main__")
