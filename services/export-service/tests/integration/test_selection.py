"""Exports of whatever sessions pass a filter."""

import pytest
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of

ADD_TOKEN = """
WITH p AS (INSERT INTO principal (name, role, robot_ids)
           VALUES ('trainee', 'operator', '{robot_B}') RETURNING id)
INSERT INTO access_token (principal_id, hash, prefix) SELECT id, $1, $2 FROM p
"""
PAST, FUTURE = "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


@pytest.fixture
async def lab(record, database):
    """Five sessions of two robots."""
    found = {
        "pick": await record(
            60, task="pick", episodes=[(0, 20, None, "success"), (20, 60, "place", "failure")]
        ),
        "fold": await record(50, task="fold"),
        "other": await record(40, task="pick", robot_id="robot_B"),
        "running": await record(30, task="pick", status="recording"),
        "gone": await record(20, task="pick"),
    }
    for name, tags in (("pick", ["day", "red"]), ("fold", ["day"])):
        await database.connection.execute(
            "UPDATE teleop_session SET tags = $1 WHERE id = $2", tags, found[name]
        )
    await database.connection.execute(
        "UPDATE teleop_session SET deleted_at = now() WHERE id = $1", found["gone"]
    )
    await database.connection.execute(
        "UPDATE teleop_session SET start_time = start_time + interval '1 day' WHERE id = $1", found["other"]
    )
    return found


async def ask(backend, wanted, status=202, **more):
    answer = await backend.http.post("/exports", json={"filter": wanted, "repo_id": "lab/pick", **more})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"robot_id": "robot_A"}, ["pick", "fold"]),
        ({"robot_id": "robot_B"}, ["other"]),
        ({"robot_type": "so101_follower"}, ["pick", "fold", "other"]),
        ({"session_tags": ["day"]}, ["pick", "fold"]),
        ({"session_tags": ["red", "day"]}, ["pick"]),
        ({"task": "pick"}, ["pick", "other"]),
        ({"task": "place"}, ["pick"]),
        ({"outcome": "failure"}, ["pick"]),
        ({"outcome": "unlabelled"}, ["fold", "other"]),
        ({"since": "2026-01-06T00:00:00Z"}, ["other"]),
        ({"since": "2026-01-06T09:00:00+09:00"}, ["other"]),
        ({"until": "2026-01-06T00:00:00Z", "since": PAST}, ["pick", "fold"]),
        ({"robot_id": "robot_A", "task": "fold"}, ["fold"]),
    ],
)
async def test_filter_finds_sessions(backend, lab, wanted, names):
    """Oldest first; neither what is still being recorded nor what was removed; the request keeps them."""
    found = (await ask(backend, wanted))["request"]
    assert found["session_ids"] == [lab[name] for name in names]
    assert (
        found["filter"].items()
        >= {key: wanted[key] for key in wanted if key not in ("since", "until")}.items()
    )


async def test_unfinished_sessions_are_found_if_asked_for(backend, lab):
    """As with session_ids."""
    found = await ask(backend, {"robot_id": "robot_A"}, include_unfinished=True)
    assert found["request"]["session_ids"] == [lab["pick"], lab["fold"], lab["running"]]


async def test_only_episodes_of_the_outcome_are_exported(backend, lab):
    """The report says what was left out, and why."""
    asked = await ask(backend, {"outcome": "success"})
    made = await backend.ended(asked["id"])
    assert (made["numbers"]["frames"], made["numbers"]["episodes"]) == (20, 1)
    (session,) = made["report"]["sessions"]
    assert [each["reason"] for each in session["excluded"]] == ["outcome not requested: failure"]


async def test_only_episodes_of_the_task_are_exported(backend, lab):
    """However many tasks their sessions had."""
    made = await backend.ended((await ask(backend, {"task": "place"}))["id"])
    assert (made["numbers"]["frames"], made["numbers"]["tasks"]) == (40, 1)
    (session,) = made["report"]["sessions"]
    assert [each["reason"] for each in session["excluded"]] == ["task not requested: pick"]


async def test_an_episode_is_found_by_any_of_its_tasks(backend, lab, database):
    """It is exported whole, with all of its tasks."""
    await database.connection.execute(
        """UPDATE episode SET later_tasks = '{"30": "wipe"}' WHERE session_id = $1 AND episode_index = 1""",
        lab["pick"],
    )
    asked = await ask(backend, {"task": "wipe"})
    assert asked["request"]["session_ids"] == [lab["pick"]]
    made = await backend.ended(asked["id"])
    assert (made["numbers"]["frames"], made["numbers"]["tasks"]) == (40, 2)


async def test_sessions_are_fixed_when_the_export_is_asked_for(backend, record, lab):
    """One recorded later makes another export of the same filter, and leaves the earlier as it is."""
    first = await ask(backend, {"robot_id": "robot_B"})
    assert (await ask(backend, {"robot_id": "robot_B"}))["id"] == first["id"]
    later = await record(10, robot_id="robot_B")
    second = await ask(backend, {"robot_id": "robot_B"})
    assert second["id"] != first["id"]
    assert second["request"]["session_ids"] == [lab["other"], later]
    assert (await backend.ended(first["id"]))["request"]["session_ids"] == [lab["other"]]


async def test_chosen_and_named_sessions_are_the_same_export(backend, lab):
    """It matters what is exported, not how it was chosen."""
    named = await backend.ask(lab["other"])
    assert (await ask(backend, {"robot_id": "robot_B"}))["id"] == named["id"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({}, "filter"),
        ({"robot": "a"}, "filter.robot"),
        ({"robot_id": ""}, "filter.robot_id"),
        ({"robot_id": 7}, "filter.robot_id"),
        ({"robot_id": "a\0"}, "filter.robot_id"),
        ({"robot_id": "robot_A\n"}, "filter.robot_id"),
        ({"session_tags": ["a\0"]}, "filter.session_tags"),
        ({"session_tags": "a"}, "filter.session_tags"),
        ({"outcome": "discarded"}, "filter.outcome"),
        ({"since": "2026-01-05"}, "filter.since"),
        ({"since": "2026-01-05T00:00:00"}, "filter.since"),
        ({"since": FUTURE, "until": PAST}, "filter.until"),
        ({"outcome": "success"}, "include_outcomes"),
    ],
)
async def test_bad_filters_name_the_field(backend, wanted, field):
    """And nothing is queued."""
    problem = await ask(backend, wanted, 422, include_outcomes=["failure"])
    assert problem["field"] == field, problem
    assert (await backend.http.get("/exports")).json()["exports"] == []


async def test_a_filter_may_be_for_some_sessions_only(backend, lab):
    """In their order; those without such an episode are left out, and unknown ones named."""
    named = [lab["other"], lab["fold"], lab["pick"]]
    found = await ask(backend, {"task": "pick"}, session_ids=named)
    assert found["request"]["session_ids"] == [lab["other"], lab["pick"]]
    found = await ask(backend, {"outcome": "success"}, session_ids=named)
    assert found["request"]["session_ids"] == [lab["pick"]]
    problem = await ask(backend, {"task": "pick"}, 404, session_ids=[lab["pick"], lab["gone"]])
    assert (problem["code"], problem["field"]) == ("session_not_found", "session_ids")
    assert str(lab["gone"]) in problem["detail"]


async def test_a_session_whose_episodes_each_pass_a_part_only_is_left_out(backend, record, lab):
    """Though its robot is another one, whose frames no dataset of the others can have."""
    await record(
        60,
        task="pick",
        robot_type="koch_follower",
        episodes=[(0, 20, "place", "success"), (20, 40, None, "failure"), (40, 60, "fold", "discarded")],
    )
    found = await ask(backend, {"task": "place", "outcome": "failure"})
    assert found["request"]["session_ids"] == [lab["pick"]]
    made = await backend.ended((await ask(backend, {"task": "fold"}))["id"])
    assert [each["session_id"] for each in made["report"]["sessions"]] == [lab["fold"]]
    narrowed = await ask(backend, {"task": "place"}, include_outcomes=["failure"])
    assert [each["session_id"] for each in narrowed["report"]["sessions"]] == [lab["pick"]]


async def test_episodes_can_be_chosen_one_by_one(backend, record, lab):
    """Exactly those, of whichever sessions, and nothing else of these."""
    second = await record(40, task="pick", episodes=[(0, 10, None, None), (10, 40, None, None)])
    chosen = [(second, 1), (lab["pick"], 0)]
    body = [{"session_id": session, "episode_index": index} for session, index in chosen]
    answer = await backend.http.post("/exports", json={"repo_id": "lab/pick", "episodes": body})
    assert answer.status_code == 202, answer.text
    made = await backend.ended(answer.json()["id"])
    assert made["request"]["session_ids"] == [second, lab["pick"]]
    assert made["request"]["episodes"] == body
    assert (made["numbers"]["episodes"], made["numbers"]["frames"]) == (2, 50)
    path = f"/exports/{made['id']}/files/meta/backend.json"
    lineage = (await backend.http.get(path)).json()["episodes"]
    assert [(each["session_id"], each["recorded_episode"]) for each in lineage] == chosen
    left_out = made["report"]["sessions"][0]["excluded"]
    assert [each["reason"] for each in left_out] == ["not among the episodes that were chosen"]


@pytest.mark.parametrize(
    ("index", "more", "status", "code"),
    [
        (2, {}, 404, "episode_not_found"),
        (1, {}, 409, "episode_discarded"),
        (0, {"filter": {"task": "pick"}}, 422, "bad_input"),
        (0, {"session_ids": [1]}, 422, "bad_input"),
        (0, {"format": "parquet"}, 422, "bad_input"),
        (-1, {}, 422, "bad_input"),
    ],
)
async def test_episodes_that_can_not_be_chosen_are_named(backend, record, index, more, status, code):
    session = await record(20, episodes=[(0, 10, None, None), (10, 20, None, "discarded")])
    body = {"repo_id": "lab/pick", "episodes": [{"session_id": session, "episode_index": index}], **more}
    answer = await backend.http.post("/exports", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    if status < 422:
        assert answer.json()["field"] == "episodes"


async def test_something_has_to_be_chosen_and_no_episode_twice(backend, lab):
    twice = [{"session_id": lab["pick"], "episode_index": 0}] * 2
    for body, field in (
        ({}, "session_ids"),
        ({"episodes": twice}, "episodes"),
        ({"episodes": []}, "episodes"),
    ):
        answer = await backend.http.post("/exports", json={"repo_id": "lab/pick", **body})
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_discarded_episodes_pass_no_filter(backend, record):
    await record(20, robot_id="robot_D", task="wipe", episodes=[(0, 20, None, "discarded")])
    problem = await ask(backend, {"task": "wipe"}, 409)
    assert problem["detail"] == "all episodes that match are discarded"


@pytest.mark.parametrize(
    ("wanted", "status", "field", "detail", "hint"),
    [
        ({"robot_id": "nobody"}, 404, "robot_id", "the robot nobody", "robot_A, robot_B"),
        ({"robot_type": "koch"}, 404, "robot_type", "the robot type koch", "so101_follower"),
        ({"robot_id": "robot_A", "task": "fly"}, 404, "task", "the task fly", "fold, pick, place"),
        ({"session_tags": ["day", "night"]}, 404, "session_tags", "the tag night", "day, red"),
        ({"since": FUTURE}, 409, "since", "matches `since`", None),
        ({"robot_id": "robot_B", "task": "fold"}, 409, None, "each of `robot_id`, `task`", "leave one"),
        ({"session_tags": ["red"], "robot_id": "robot_B"}, 409, None, "each of", "leave one"),
    ],
)
async def test_a_filter_that_nothing_passes_names_what_fits_none(
    backend, lab, wanted, status, field, detail, hint
):
    """A name that no session has is mistyped, so the request can't succeed later; others may."""
    problem = await ask(backend, wanted, status)
    assert problem["code"] == {404: "unknown_name", 409: "nothing_to_export"}[status]
    assert problem["retryable"] == (status == 409)
    assert problem["field"] == (f"filter.{field}" if field else "filter")
    assert detail in problem["detail"]
    assert hint is None or hint in problem["hint"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"robot_id": "nobody"},
        {"robot_id": "robot_A"},
        {"robot_type": "koch"},
        {"task": "fly"},
        {"task": "fold"},
        {"session_tags": ["night"]},
        {"session_tags": ["red"]},
    ],
)
async def test_whoever_is_for_one_robot_learns_of_no_other(backend, lab, database, wanted):
    """Neither from what is known, nor from what is refused otherwise: others' names do not exist."""
    token = make_token("operator")
    await database.connection.execute(ADD_TOKEN, hash_of(token), prefix_of(token))
    answer = await backend.http.post(
        "/exports",
        json={"repo_id": "u/d", "filter": wanted},
        headers={"Authorization": f"Bearer {token}"},
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (404, "unknown_name")
    told = (problem.get("hint") or "").removeprefix("known are ")
    assert not {"robot_A", "fold", "place", "red", "day"}.intersection(told.split(", "))


async def test_tags_that_no_session_has_together_are_no_mistake(backend, lab, database):
    """Each of them is known."""
    await database.connection.execute("UPDATE teleop_session SET tags = '{wet}' WHERE id = $1", lab["other"])
    problem = await ask(backend, {"session_tags": ["red", "wet"]}, 409)
    assert (problem["field"], problem["detail"]) == (
        "filter.session_tags",
        "no session has all of these tags",
    )


async def test_a_filter_that_only_running_sessions_pass_says_so(backend, record):
    """They can be exported as they are."""
    running = await record(30, robot_id="robot_C", status="recording")
    problem = await ask(backend, {"robot_id": "robot_C"}, 409)
    assert problem["detail"] == f"all sessions that match are still being recorded: {running}"
    assert "include_unfinished" in problem["hint"]


async def test_too_many_sessions_are_refused(backend, lab, monkeypatch):
    """With the limit and what to do."""
    monkeypatch.setattr("teleop_export.api.asking.MAX_SESSIONS", 1)
    problem = await ask(backend, {"robot_id": "robot_A"}, 422)
    assert (problem["field"], problem["limit"]) == ("filter", 1)


async def test_list_of_exports_can_be_narrowed(backend, lab):
    """By status, name and session."""
    first = await backend.ended((await backend.ask(lab["pick"], repo_id="lab/a"))["id"])
    second = await backend.ended((await backend.ask(lab["pick"], lab["fold"], repo_id="lab/b"))["id"])

    async def listed(query):
        return [each["id"] for each in (await backend.http.get(f"/exports?{query}")).json()["exports"]]

    assert await listed("repo_id=lab/a") == [first["id"]]
    assert await listed(f"session_id={lab['fold']}") == [second["id"]]
    assert await listed(f"session_id={lab['pick']}&status=done") == [second["id"], first["id"]]
    assert await listed("status=failed") == []
    assert (await backend.http.get("/exports?status=odd")).json()["field"] == "status"


async def test_report_is_readable_text(backend, lab):
    """The ledger in lines."""
    export = await backend.ended((await ask(backend, {"outcome": "success"}))["id"])
    answer = await backend.http.get(f"/exports/{export['id']}/report.txt")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "60 committed - 40 excluded = 20 exported" in answer.text
    assert "left out: episode 1, frames 20 to 59: outcome not requested: " in answer.text
    assert "lab/pick, done" in answer.text
