"""Flags of episodes: found soon after their end, after a change, and of all that was recorded before."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from teleop_schema.messages import Batch, Event
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.suspicion import looking
from teleop_testing.backends.serving import client_of, serving
from teleop_testing.robots import arms
from teleop_testing.robots.arms import Arm
from teleop_testing.robots.robot import record
from teleop_testing.waiting import until

SESSION = {"robot_type": "so101_follower", "state_names": list(arms.NAMES), "action_names": list(arms.NAMES)}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Tests do not wait as long as services do."""
    monkeypatch.setattr("teleop_telemetry.app.FLAGS_EVERY_S", 0.05)
    monkeypatch.setattr("teleop_telemetry.suspicion.looking.REST", 0.0)


async def recorded(service: str, recordings: Sequence[Arm], task: str = "pick") -> int:
    """A session with an episode of each recording, one after the other."""
    batches, first = [], 0
    for number, arm in enumerate(recordings):
        many = len(arm.index)
        events = (
            Event(kind="episode_start", episode_index=number, frame_index=first),
            Event(kind="episode_end", episode_index=number, frame_index=first + many),
        )
        times_us = arm.time_us + number * 3_600_000_000
        batches.append(
            Batch(
                first=first,
                count=many,
                timestamps=times_us.astype("<i8").tobytes(),
                state=arm.state.astype("<f4").tobytes(),
                action=arm.action.astype("<f4").tobytes(),
                observation_ages_us={int(row): int(arm.age_us[row]) for row in np.flatnonzero(arm.age_us)},
                events=events,
            )
        )
        first += many
    return await record(service, frames=first, batches=batches, fps=arms.FPS, task=task, **SESSION)


async def flags(http, session: int, episode: int = 0) -> dict:
    """Once they are known, and nothing is left to do."""

    async def known() -> dict | None:
        answer = await http.get(f"/sessions/{session}/episodes/{episode}/flags")
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return None if told["waiting"] else told

    return await until(known)


async def test_flags_tell_the_moment_the_value_and_the_threshold(http, service):
    rng = np.random.default_rng(1)
    broken = arms.broken_values(rng, 3)
    session = await recorded(service, [arms.clean(rng), arms.stalled(rng, 1.0), broken])
    clean = await flags(http, session)
    assert (clean["flags"], clean["suspicion"]) == ([], 0)
    [stall] = (await flags(http, session, 1))["flags"]
    assert (stall["flag"], stall["joint"], stall["threshold"]) == ("stall", None, 0.3)
    assert stall["value"] == pytest.approx(1.0, abs=0.05)
    assert stall["end_frame"] - stall["first_frame"] == 2
    third = await flags(http, session, 2)
    [bad] = third["flags"]
    start = (await http.get(f"/sessions/{session}/episodes/2")).json()["start_frame"]
    assert (bad["first_frame"] - start, bad["end_frame"] - start) == broken.fault
    assert (bad["flag"], bad["joint"], bad["value"]) == (
        "not_finite",
        f"observation.{arms.NAMES[broken.joint]}",
        3,
    )
    assert third["suspicion"] == 10


async def test_the_most_suspicious_are_found_first_a_page_at_a_time(http, service):
    rng = np.random.default_rng(2)
    faults = [arms.idle_at_end(rng, 5), arms.clean(rng), arms.broken_values(rng, 1), arms.clean(rng)]
    session = await recorded(service, faults)
    for number in range(4):
        await flags(http, session, number)
    found, cursor = [], {}
    while cursor is not None:
        query = {"order": "suspicion", "limit": 1, **cursor}
        page = (await http.get("/episodes", params=query)).json()
        found += [(each["episode_index"], each["flags"]) for each in page["episodes"]]
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert found == [(2, ["not_finite"]), (0, ["idle_end"]), (3, []), (1, [])]
    idle = (await http.get("/episodes", params={"flag": "idle_end"})).json()["episodes"]
    assert [each["episode_index"] for each in idle] == [0]
    for query, field in (
        ({"flag": "lazy"}, "flag"),
        ({"order": "random"}, "order"),
        ({"order": "suspicion", "cursor": "1-2"}, "cursor"),
        ({"cursor": "1-2-3"}, "cursor"),
    ):
        answer = await http.get("/episodes", params=query)
        assert (query, answer.status_code, answer.json()["field"]) == (query, 422, field)


async def test_a_trimmed_episode_is_looked_at_again(http, service):
    session = await recorded(service, [arms.idle_at_end(np.random.default_rng(3), 5)])
    [idle] = (await flags(http, session))["flags"]
    assert idle["flag"] == "idle_end"
    change = {"end_frame": idle["first_frame"] + 5}
    assert (await http.patch(f"/sessions/{session}/episodes/0", json=change)).status_code == 200
    assert (await flags(http, session))["flags"] == []
    assert (await http.post(f"/sessions/{session}/episodes/0/undo", json={})).status_code == 200
    assert [each["flag"] for each in (await flags(http, session))["flags"]] == ["idle_end"]


async def test_a_new_threshold_judges_all_that_was_measured(http, service, monkeypatch):
    """Without reading a frame again."""
    session = await recorded(service, [arms.idle_at_end(np.random.default_rng(4), 5)])
    assert (await flags(http, session))["flags"] != []
    monkeypatch.setattr(looking, "FrameReader", None)
    told = (await http.put("/flags/idle_end", json={"threshold": 60})).json()
    assert (told["threshold"], told["default"], told["changed_by"]) == (60, 3, "this machine")

    async def found(names: list[str]) -> bool:
        page = (await http.get("/episodes")).json()["episodes"]
        return page[0]["flags"] == names

    await until(lambda: found([]))
    assert (await http.put("/flags/idle_end", json={"threshold": None})).json()["threshold"] == 3
    await until(lambda: found(["idle_end"]))
    for name, body, status, field in (
        ("lazy", {"threshold": 1}, 404, "flag"),
        ("jump", {"threshold": 0.5}, 422, "threshold"),
        ("jump", {}, 422, "threshold"),
        ("jump", {"threshold": 1e9}, 422, "threshold"),
    ):
        answer = await http.put(f"/flags/{name}", json=body)
        assert (name, body, answer.status_code, answer.json()["field"]) == (name, body, status, field)


async def test_an_episode_is_compared_with_the_others_of_its_task(http, service):
    """Whichever came first: the odd one and the copy are recorded before there are enough others."""
    rng = np.random.default_rng(5)
    odd, twin = arms.odd_end(rng, 20), arms.clean(rng)
    first = await recorded(service, [odd, twin])
    await flags(http, first, 1)
    second = await recorded(service, [twin, *(arms.clean(rng) for _ in range(9))])

    async def told() -> bool:
        page = (await http.get("/episodes", params={"order": "suspicion"})).json()["episodes"]
        names = {(each["session_id"], each["episode_index"]): each["flags"] for each in page}
        return (
            names.pop((first, 0)) == ["odd_end"]
            and names.pop((second, 0)) == ["duplicate"]
            and not any(names.values())
        )

    await until(told)
    [copy] = (await flags(http, second))["flags"]
    assert (copy["other_session"], copy["other_episode"], copy["value"]) == (first, 1, 0)


async def test_what_was_left_is_looked_at_after_a_restart_once_by_all_replicas(database_url, monkeypatch):
    """Nobody looks while it is recorded; then two replicas share the work."""
    settings = TelemetrySettings(database_url=database_url, _env_file=None)
    monkeypatch.setattr("teleop_telemetry.app.FLAGS_EVERY_S", 3600.0)
    rng = np.random.default_rng(6)
    many = 8
    with monkeypatch.context() as asleep:
        asleep.setattr(looking.Looking, "once", lambda self: asyncio.sleep(0))
        async with serving(create_app(settings)) as service:
            session = await recorded(service, [arms.stalled(rng, 1.0) for _ in range(many)])
    monkeypatch.setattr("teleop_telemetry.app.FLAGS_EVERY_S", 0.05)
    measured = []
    measure = looking.measure

    def counted(recording, history):
        measured.append(int(recording.index[0]))
        return measure(recording, history)

    monkeypatch.setattr(looking, "measure", counted)
    async with (
        serving(create_app(settings)) as one,
        serving(create_app(settings)),
        client_of(one) as http,
    ):
        for number in range(many):
            assert [each["flag"] for each in (await flags(http, session, number))["flags"]] == ["stall"]
    assert sorted(measured) == sorted(set(measured))
    assert len(measured) == many


async def test_one_that_cant_be_read_does_not_hold_up_the_others(http, service, monkeypatch):
    rng = np.random.default_rng(8)
    measure = looking.measure

    def failing(recording, history):
        if recording.index[0] > 0:
            raise RuntimeError("a fault in a measurement")
        return measure(recording, history)

    monkeypatch.setattr(looking, "measure", failing)
    monkeypatch.setattr(looking, "AGAIN_AFTER_S", 0.1)
    session = await recorded(service, [arms.clean(rng), arms.clean(rng)])
    assert (await flags(http, session))["flags"] == []
    assert (await http.get(f"/sessions/{session}/episodes/1/flags")).json()["looked_at"] is None
    monkeypatch.setattr(looking, "measure", measure)
    assert (await flags(http, session, 1))["flags"] == []


async def test_flags_of_what_does_not_exist(http, service):
    session = await recorded(service, [arms.clean(np.random.default_rng(9))])
    for where in (f"/sessions/{session}/episodes/7/flags", "/sessions/999/episodes/0/flags"):
        assert (await http.get(where)).status_code == 404
    kinds = (await http.get("/flags")).json()
    assert all(each["why"] and each["measures"] and each["unit"] for each in kinds)
