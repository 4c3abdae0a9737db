"""HTTP: what is suspicious about episodes, and from where on."""

import math
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from teleop_runtime.postgres.pool import Pool, connected
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, NotFound, SessionErased, SessionNotFound

from teleop_telemetry.library.endpoints import EPISODE, index_of
from teleop_telemetry.library.episode_edits import find_episode
from teleop_telemetry.reading.addresses import session_id_of
from teleop_telemetry.suspicion.catalogue import KINDS, FlagName, Kind
from teleop_telemetry.suspicion.threshold_table import FlagKind, ThresholdTable

TIMEOUT_S = 10.0
# No value is greater.
MOST = 1e6

NAMES = {
    "flag": Annotated[str, Meta(description="Name of the flag", examples=["idle_end"])],
}
TAGS = {"flags": "What is suspicious about episodes: which flags there are, and from where on"}

FLAGS = """
SELECT jsonb_build_object(
       'looked_at', l.looked_at,
       'waiting', e.end_frame IS NOT NULL AND l.due_at IS NOT NULL,
       'suspicion', l.suspicion / 100.0,
       'flags', (SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.number), '[]')
                   FROM episode_flag f
                  WHERE f.session_id = e.session_id AND f.episode_index = e.episode_index))
  FROM every_episode e LEFT JOIN episode_look l USING (session_id, episode_index)
 WHERE e.session_id = $1 AND e.episode_index = $2
"""


class FlagView(Struct, kw_only=True):
    """One reason for suspicion.

    flag         its name, one of GET /flags
    joint        `observation.<name>` or `action.<name>`; null: it is of the whole episode
    first_frame, end_frame
                 the moment: frames first_frame to end_frame - 1
    value        what was measured
    threshold    beyond which it is suspicious, in the same unit
    other_session, other_episode
                 the episode that it is compared with; null: with none
    """

    flag: FlagName
    joint: str | None
    first_frame: int
    end_frame: int
    value: float
    threshold: float
    other_session: int | None
    other_episode: int | None


class EpisodeFlags(Struct, kw_only=True):
    """What is suspicious about an episode.

    looked_at  when that was found out, by the server's clock; null: not yet
    waiting    whether it will be looked at again, because the episode or a threshold has changed
    suspicion  how many times each flag is beyond its threshold, at most 10, added up; null: not known yet
    flags      by name
    """

    looked_at: datetime | None
    waiting: bool
    suspicion: float | None
    flags: list[FlagView]


class NewThreshold(Struct, forbid_unknown_fields=True):
    """From where on a flag is raised.

    threshold  in the unit of the flag; null: the default
    """

    threshold: float | None


async def get_flags(request: Request) -> Response:
    """What is suspicious about an episode, with the moment, the measured value and its threshold."""
    session_id, episode_index = session_id_of(request), index_of(request)
    pool: Pool = request.state.library_pool
    async with connected(pool, timeout_s=TIMEOUT_S) as connection:
        await find_episode(connection, session_id, episode_index)
        told = await connection.fetchval(FLAGS, session_id, episode_index)
    return JsonResponse(msgspec.json.decode(told, type=EpisodeFlags))


async def list_flags(request: Request) -> Response:
    """Every kind of flag: what it measures, its threshold, and why it matters."""
    table: ThresholdTable = request.state.threshold_table
    return JsonResponse(await table.kinds())


async def put_threshold(request: Request) -> Response:
    """Set the threshold of a flag. All episodes are judged by it within minutes, from what was measured."""
    kind = _kind_of(request)
    wanted = await read_body(request, NewThreshold)
    if wanted.threshold is not None:
        _check(kind, wanted.threshold)
    table: ThresholdTable = request.state.threshold_table
    await table.put(kind.name, wanted.threshold, caller_of(request).name)
    request.state.subject = f"{kind.name}: {'default' if wanted.threshold is None else wanted.threshold}"
    [changed] = [each for each in await table.kinds() if each.name == kind.name]
    return JsonResponse(changed)


def _kind_of(request: Request) -> Kind:
    name: str = request.path_params["flag"]
    for kind in KINDS.values():
        if kind.name == name:
            return kind
    raise NotFound(f"there is no flag {name!r}", field="flag", hint=f"one of {', '.join(KINDS)}")


def _check(kind: Kind, threshold: float) -> None:
    if not math.isfinite(threshold) or not kind.least <= threshold <= MOST:
        raise BadInput(
            f"the threshold of {kind.name} is {threshold:g}, "
            f"not between {kind.least:g} and {MOST:g} {kind.unit}",
            field="threshold",
        )


OPERATIONS = (
    Operation(
        "GET",
        f"{EPISODE}/flags",
        get_flags,
        needs="read",
        answer=EpisodeFlags,
        errors=[SessionNotFound, SessionErased, NotFound],
    ),
    # About no robot: whoever may read episodes of one knows what their flags mean.
    Operation("GET", "/flags", list_flags, needs="read", own_check=True, answer=list[FlagKind]),
    Operation(
        "PUT",
        "/flags/{flag}",
        put_threshold,
        needs="administer",
        body=NewThreshold,
        example={"threshold": 5.0},
        answer=FlagKind,
        errors=[BadInput, NotFound],
    ),
)
