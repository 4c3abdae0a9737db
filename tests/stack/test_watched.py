"""The monitoring profile: a real Prometheus finds every replica, and an alert comes when it should."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from recorder import record
from stack import REPOSITORY, Stack, in_thread
from teleop_testing.waiting import PATIENCE_S, until, wait_for

pytestmark = pytest.mark.long("Prometheus looks every 15 s")
MONITORING = REPOSITORY / "deploy/monitoring"
# Prometheus looks at the services, and at its rules, every 15 s.
LOOK_EVERY_S = 0.5
WATCHED = ("telemetry-service", "video-ingest-service", "export-service")


class Prometheus:
    """Asked where its container is, since it is not published."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"{address}/api/v1/", timeout=PATIENCE_S)

    def ask(self, *paths: str) -> list[Any]:
        """What its API answers, path by path."""
        answers = [self._http.get(path).raise_for_status().json() for path in paths]
        assert all(answer["status"] == "success" for answer in answers), answers
        return [answer["data"] for answer in answers]

    def is_up(self) -> bool:
        """Whether it answers already."""
        try:
            return bool(self.ask("status/buildinfo"))
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()

    def query(self, *expressions: str) -> list[list[Any]]:
        """The series that each expression gives."""
        found = self.ask(*(f"query?query={quote(expression)}" for expression in expressions))
        return [each["result"] for each in found]

    def alerts(self) -> dict[str, Any]:
        """What fires, or is about to."""
        (found,) = self.ask("alerts")
        return {each["labels"]["alertname"]: each for each in found["alerts"]}

    def up(self) -> dict[str, int]:
        """How many replicas of each service answer."""
        (found,) = self.query("sum by (job) (up == 1)")
        return {each["metric"]["job"]: int(each["value"][1]) for each in found}


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[Prometheus]:
    """Beside two replicas of telemetry-service."""
    stack.up("--scale", "telemetry-service=2")
    stack.compose("--profile", "monitoring", "up", "--detach", "--no-deps", "prometheus")
    prometheus = Prometheus(stack.url_of(stack.container("prometheus"), 9090))
    wait_for(prometheus.is_up, every_s=LOOK_EVERY_S)
    yield prometheus
    prometheus.close()
    stack.compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus")
    stack.up()


async def test_every_replica_is_found_by_its_services_name(prometheus):
    """Also those that were added later; nothing names them but the network."""
    wanted = {"telemetry-service": 2, "video-ingest-service": 1, "export-service": 1}
    await until(lambda: prometheus.up() == wanted, every_s=LOOK_EVERY_S)


async def test_all_rules_are_looked_at(prometheus):
    """Prometheus itself has evaluated every alert of the file, and found none that makes no sense."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    wanted = {rule["alert"] for group in groups for rule in group["rules"]}

    def sound() -> set[str]:
        (told,) = prometheus.ask("rules")
        rules = [rule for group in told["groups"] for rule in group["rules"]]
        assert not [rule for rule in rules if rule.get("lastError")]
        return {rule["name"] for rule in rules if rule["health"] == "ok"}

    await until(lambda: sound() == wanted, every_s=LOOK_EVERY_S)


async def test_the_dashboard_has_something_to_show(prometheus, recorded):
    """Every panel's expression is answered, and those of what is always there with a figure."""
    board = json.loads((MONITORING / "grafana/dashboards/lerobot-backend.json").read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    answered = dict(zip(asked, prometheus.query(*asked), strict=True))
    for expression in (
        "max(telemetry_database_bytes)",
        "min(store_free_bytes)",
        "max(telemetry_sessions_recording)",
    ):
        assert answered[expression], expression
    assert {each["metric"]["job"] for each in answered["process_resident_memory_bytes"]} == set(WATCHED)


async def test_an_alert_comes_and_says_what_to_do(stack, prometheus, tmp_path):
    """A chunk that is no video: accepted, quarantined, and somebody hears of it."""
    await until(lambda: prometheus.query("quarantined_videos_total") != [[]], every_s=LOOK_EVERY_S)
    assert "VideoQuarantined" not in prometheus.alerts()
    session = (await in_thread(record, stack.url, tmp_path))["session_id"]
    sent = await in_thread(upload_nonsense, stack, session)
    assert sent.status_code == 201, sent.text
    await until(lambda: "VideoQuarantined" in prometheus.alerts(), every_s=LOOK_EVERY_S)
    alert = prometheus.alerts()["VideoQuarantined"]
    assert alert["state"] == "firing"
    # How many is an estimate: Prometheus extends what it saw to the whole of its window.
    assert "video chunk" in alert["annotations"]["summary"]
    assert "/videos" in alert["annotations"]["action"]


def upload_nonsense(stack: Stack, session: int) -> httpx.Response:
    fields = {
        "robot_id": "robot_stack",
        "session": str(session),
        "camera_key": "front",
        "chunk_index": "99",
        "start_timestamp": "2026-11-23T09:20:48Z",
        "end_timestamp": "2026-11-23T09:20:58Z",
    }
    return httpx.post(
        f"{stack.url}/upload/video",
        data=fields,
        files={"file": ("chunk.mp4", b"no video" * 100)},
        timeout=PATIENCE_S,
    )
