"""How many descriptors a server may have."""

import resource

import pytest
from teleop_runtime.descriptors import ENOUGH, FOR_CONNECTIONS, Room, raise_limit
from teleop_runtime.proxies import read_proxies
from teleop_runtime.serving.app import assemble
from teleop_schema.errors import TooManyConnections


@pytest.fixture
def hard():
    """The system's own limit; this process begins with few."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_server_allows_itself_what_it_may_have(hard):
    """Every server does so when it starts."""
    app = assemble("some-service", [], exposure="local")
    async with app.router.lifespan_context(app):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH))


def test_more_is_left_alone(hard, monkeypatch):
    """A higher limit stays."""
    monkeypatch.setattr("teleop_runtime.descriptors.ENOUGH", 256)
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512


def test_room_for_connections_in_all_and_of_one_address():
    """Whoever leaves makes room; a proxy is many clients."""
    room = Room(5, 2, read_proxies("10.0.0.0/8"))
    for address in ("192.0.2.1", "192.0.2.1", "10.0.0.1", "10.0.0.1", "10.0.0.1"):
        room.enter(address)
    with pytest.raises(TooManyConnections, match="5 connections are open"):
        room.enter("192.0.2.2")
    room.leave("10.0.0.1")
    with pytest.raises(TooManyConnections) as caught:
        room.enter("192.0.2.1")
    assert "LEROBOT_BACKEND_CONNECTIONS_PER_ADDRESS" in caught.value.hint
    room.enter("192.0.2.2")
    room.leave("192.0.2.1")
    room.enter("192.0.2.1")


def test_connections_leave_descriptors_to_the_rest(hard):
    """However many are allowed: files and the database need some."""
    room = Room(10_000, 10_000)
    most = int(512 * FOR_CONNECTIONS)
    for _ in range(most):
        room.enter("")
    with pytest.raises(TooManyConnections, match=f"{most} connections"):
        room.enter("")
