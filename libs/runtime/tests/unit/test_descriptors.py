"""How many descriptors a server may have."""

import resource

import pytest
from teleop_runtime.descriptors import ENOUGH, raise_limit
from teleop_runtime.serving.app import assemble


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
