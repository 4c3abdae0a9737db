"""Programs with a defect built in, each of which must be caught: `python tests/faults/sabotaged.py`, as root.

They say more than is true: an encoder, a sync-agent, video-ingest-service and export-service.
"""

import argparse
import asyncio
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import chaos
import server_power

TRIES = 30


@dataclass(frozen=True)
class Sabotage:
    """A defect of `sabotage/sitecustomize.py`, a run with a seed that has to fail, and in which words."""

    defect: str
    run: Callable[[int], None]
    found: str


def hurt(part: str, fault: str, seed: int) -> None:
    """A part of the system, hurt again and again in the same way."""
    asyncio.run(chaos.run(TRIES, seed, parts=[part], only=[fault]))


SABOTAGES = (
    Sabotage("forget_what_a_dead_encoder_left", partial(hurt, "robots", "kill encoder"), "are nowhere"),
    Sabotage(
        "call_stored_what_was_only_begun", partial(hurt, "files", "cut upload"), "the server does not know it"
    ),
    Sabotage("trust_offsets", partial(hurt, "files", "cut upload"), "other bytes are in the store"),
    Sabotage("call_done_what_is_not_published", partial(hurt, "exports", "kill export"), "is done, but"),
    Sabotage("tell_offsets_before_the_disk", partial(server_power.run, TRIES), "bytes told"),
)


def must_be_caught(sabotage: Sabotage, seed: int) -> str:
    """What is said of it; raises AssertionError if that is nothing, or something else."""
    try:
        sabotage.run(seed)
    except AssertionError as error:
        said = str(error)
    else:
        raise AssertionError(f"seed {seed}: nobody sees that programs {sabotage.defect}")
    assert re.search(sabotage.found, said), f"{sabotage.defect} is told as: {said}"
    return said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    seed = parser.parse_args().seed
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "sabotage")
    for sabotage in SABOTAGES:
        os.environ["SABOTAGE"] = sabotage.defect
        print(f"{sabotage.defect}: caught: {must_be_caught(sabotage, seed)}", flush=True)
