"""The two commands where there is the base system, Python and make, as an ordinary user and as root."""

import re

import pytest
from bare import PEOPLE, bare_machine

# One file of every package: what it is made of can be installed there, and works.
FILES = (
    "libs/schema/tests/integration/test_migrations.py",
    "libs/runtime/tests/integration/test_local_store.py",
    "libs/dataset/tests/integration/test_repair.py",
    "libs/robot/tests/integration/test_client.py",
    "libs/virtual-robot/tests/integration/test_devices.py",
    "services/telemetry-service/tests/integration/test_frames.py",
    "services/video-ingest-service/tests/integration/test_tus_uploads.py",
    "services/export-service/tests/integration/test_selection.py",
    "services/sync-agent/tests/integration/test_datasets.py",
    "deploy/local/tests/integration/test_postgres_account.py",
    "tests/support/tests/test_ordinary.py",
)


@pytest.fixture(scope="module")
def machine(engine):
    with bare_machine(engine) as machine:
        yield machine


@pytest.mark.parametrize("person", PEOPLE)
def test_the_two_commands(machine, person):
    """All is installed by them; root's tests are an ordinary user's there too."""
    assert "gaps=0 duplicates=0" in machine.run(person, "make demo")
    printed = machine.run(person, f"make test TESTS='{' '.join(FILES)}'")
    passed = re.search(r"(\d+) passed", printed)
    assert passed is not None
    assert int(passed[1]) > 100
    assert " failed" not in printed
