"""The two commands where there is the base system, Python and make, as an ordinary user and as root."""

import re

import pytest
from bare import bare_machine

# One file of every package: what it is made of can be installed there, and works.
OF_EVERY_PACKAGE = (
    "libs/schema/tests/integration/test_migrations.py",
    "libs/runtime/tests/integration/test_s3_store.py",
    "libs/dataset/tests/integration/test_soundness.py",
    "libs/robot/tests/integration/test_spool.py",
    "libs/virtual-robot/tests/integration/test_devices.py",
    "services/telemetry-service/tests/integration/test_numbers.py",
    "services/video-ingest-service/tests/integration/test_known.py",
    "services/export-service/tests/integration/test_rates.py",
    "services/sync-agent/tests/integration/test_datasets.py",
    "deploy/local/tests/integration/test_postgres_account.py",
)
# And of what is different where root asks for it.
OF_ROOT = (
    "tests/support/tests/test_ordinary.py",
    "libs/runtime/tests/integration/test_local_store.py",
    "libs/virtual-robot/tests/integration/test_devices.py",
)
# Each imports LeRobot and starts a PostgreSQL of its own, which takes longer than these files do.
TEST_PROCESSES = 2


@pytest.fixture(scope="module")
def machine(engine):
    with bare_machine(engine) as machine:
        yield machine


@pytest.mark.parametrize(("person", "files"), [("person", OF_EVERY_PACKAGE), ("root", OF_ROOT)])
def test_the_two_commands(machine, person, files):
    """All is installed by them; root's tests are an ordinary user's there too."""
    assert "gaps=0 duplicates=0" in machine.run(person, "make demo")
    printed = machine.run(person, f"make test TEST_PROCESSES={TEST_PROCESSES} TESTS='{' '.join(files)}'")
    # Nothing is left out but what needs root, and much is left.
    assert re.search(r"\d\d passed", printed)
    assert not [line for line in printed.splitlines() if "SKIPPED" in line and "needs root" not in line]
