"""The first command where there is the base system, Python and make; `make test-bare` runs both there."""

import pytest
from bare import PEOPLE, bare_machine, check_demo


@pytest.fixture(scope="module")
def machine(engine):
    with bare_machine(engine) as machine:
        yield machine


@pytest.mark.parametrize("person", PEOPLE)
def test_the_demo(machine, person):
    """An ordinary user's and root's: all that it needs is installed by it."""
    check_demo(machine.run(person, "make demo"))
