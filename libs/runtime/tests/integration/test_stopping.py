"""SIGTERM, with a real server in a process of its own."""

import signal
import subprocess
import sys
import time

import httpx
import pytest
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S

SERVER = """
import asyncio, sys
from contextlib import asynccontextmanager
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.serve import serve
from teleop_runtime.serving.operations import JsonResponse, Operation

configure_logs("ERROR")
behaviour, port = sys.argv[1], int(sys.argv[2])

async def wait(request):
    await asyncio.sleep(0.5)
    return JsonResponse("done")

async def drain():
    print("draining", flush=True)
    if behaviour == "fails":
        raise RuntimeError("no")
    await asyncio.sleep(3600 if behaviour == "hangs" else 1)
    print("drained", flush=True)

@asynccontextmanager
async def lifespan():
    yield Running(state={}, drain=drain)
    print("stopped", flush=True)

part = ServicePart(name="example", operations=[Operation("GET", "/wait", wait, "read")], lifespan=lifespan)
serve(assemble("example", [part], exposure="local"), host="127.0.0.1", port=port)
"""


@pytest.fixture
def start():
    """Starts servers that drain well or badly; ends what is left of them."""
    started = []

    def start(behaviour: str) -> tuple[subprocess.Popen, str]:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, behaviour, str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"{address}/readyz", timeout=PATIENCE_S).status_code == 200:
                    return process, address
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_drain_comes_before_the_end(start):
    """Asked to stop, the server is unready at once, drains while it still answers, and only then stops."""
    process, address = start("drains")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "draining\n"
    answer = httpx.get(f"{address}/readyz", timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["process"]) == (503, "draining")
    assert httpx.get(f"{address}/wait", timeout=PATIENCE_S).json() == "done"
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert rest == "drained\nstopped\n"


def test_second_signal_does_not_wait(start):
    """Who asks twice does not want to wait for the drain."""
    process, _ = start("hangs")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "draining\n"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert rest == "stopped\n"


def test_failing_drain_does_not_keep_the_process(start):
    """A drain that fails is logged, and the process stops all the same."""
    process, _ = start("fails")
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert rest == "draining\nstopped\n"
