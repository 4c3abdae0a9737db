"""Threads that decode the same types at once."""

import subprocess
import sys

from teleop_testing.waiting import PATIENCE_S

PROGRAM = """
import sys, threading, types
import msgspec
from teleop_schema.decoding import prepare_types

sys.setswitchinterval(1e-7)

def chain(name):
    # Types that name each other, as late as a module may.
    module = types.ModuleType(name)
    sys.modules[name] = module
    for number in range(8):
        following = f"{name}_{number + 1}"
        hints = {"a": "int", "b": f"list[{following}] | None", "c": f"dict[str, {following}]"}
        space = {"__module__": name, "__annotations__": hints, "b": None, "c": {}}
        kind = type(msgspec.Struct)(f"{name}_{number}", (msgspec.Struct,), space)
        setattr(module, f"{name}_{number}", kind)
    setattr(module, f"{name}_8", msgspec.defstruct(f"{name}_8", [("a", int, 0)], module=name))
    return getattr(module, f"{name}_0")

def decode(kind, together):
    together.wait()
    msgspec.json.decode(b'{"a":1,"b":[{"a":2,"c":{"x":{"a":3}}}]}', type=kind)

for turn in range(40):
    kind = chain(f"kind{turn}")
    prepare_types()
    together = threading.Barrier(6)
    threads = [threading.Thread(target=decode, args=(kind, together)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print("all decoded")
"""


def test_threads_may_decode_a_type_for_the_first_time_at_once():
    """Without the preparation, this ends with SIGSEGV in one of the first turns."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all decoded\n"), done.stderr[-1000:]
