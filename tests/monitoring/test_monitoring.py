"""What watches the stack: its rules hold, and whatever they ask for exists."""

import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from teleop_runtime.metrics import REGISTRY
from teleop_testing.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "lerobot-backend.json"
SERVICES = ("teleop_telemetry", "teleop_video_ingest", "teleop_export")
PORTS = {"telemetry-service": 8001, "video-ingest-service": 8002, "export-service": 8003}
# Made by Prometheus itself.
BUILT_IN = {"up", "ALERTS"}
# Metric names are what is left of an expression without its strings, ranges, labels, functions and words.
NOT_NAMES = re.compile(
    r'"[^"]*"|\[[^]]*\]|\{[^}]*\}|\b[a-z]+\s+(?:by|without)\s*\([^)]*\)|\b[a-z_0-9]+\s*\(|\bor\b|\b\d\w*'
)
NAME = re.compile(r"\b[a-zA-Z_][a-zA-Z0-9_]+\b")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def load(path: Path):
    return yaml.safe_load(path.read_text("utf-8"))


def rules() -> list[dict]:
    return [rule for group in load(MONITORING / "alerts.yml")["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    return [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def names_in(expression: str) -> set[str]:
    return set(NAME.findall(NOT_NAMES.sub(" ", expression))) - BUILT_IN


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Every sample that the services can show, with the names of its labels."""
    for service in SERVICES:
        importlib.import_module(f"{service}.metrics")
    found: dict[str, set[str]] = {
        sample.name: set() for metric in REGISTRY.collect() for sample in metric.samples
    }
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        for name in names:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


def asked_by_panels() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def expressions() -> list[tuple[str, str]]:
    return [(rule["alert"], rule["expr"]) for rule in rules()] + asked_by_panels()


def test_names_are_found_in_expressions():
    """The test's own reading of expressions leaves names, and nothing else."""
    expression = (
        'sum by (job) (rate(a_total{x=~"5.."}[5m])) / bb > 48 * 1024 or absent(cc{d="e"} == 1) < 10e9'
    )
    assert names_in(expression) == {"a_total", "bb", "cc"}


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_metric_that_is_asked_for_exists(samples, where, expression):
    """A renamed metric would leave an alert silent for ever."""
    asked = names_in(expression)
    assert asked or "up{" in expression or "ALERTS{" in expression
    assert asked <= set(samples), where


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_label_that_is_asked_for_exists(samples, where, expression):
    """What a sum is split by is a label of the metric, or one that Prometheus adds."""
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression)
        for label in labels.split(",")
    }
    known = {"job", "instance"}.union(*(samples[name] for name in names_in(expression)))
    assert grouped <= known, where


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule):
    """Each has a severity, what happened, and what to do about it."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "action"}


def test_every_service_is_asked_at_the_port_it_listens_on():
    """Replicas are found by name; the ports are those of the images."""
    asked = load(MONITORING / "prometheus.yml")["scrape_configs"]
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in asked}
    assert {name: job["port"] for name, job in jobs.items()} == PORTS
    assert all(job["names"] == [name] and job["type"] == "A" for name, job in jobs.items())
    compose = load(ROOT / "compose.yaml")["services"]
    for name, port in PORTS.items():
        assert compose[name]["build"]["args"]["PORT"] == port


def test_nothing_of_it_is_published_but_on_this_machine():
    """In compose.yaml both are reachable from the stack alone; publish.yaml opens Grafana to loopback."""
    compose = load(ROOT / "compose.yaml")["services"]
    for name in ("prometheus", "grafana"):
        assert compose[name]["profiles"] == ["monitoring"]
        assert "ports" not in compose[name]
        assert compose[name]["networks"] == ["backend"]
        assert compose[name]["read_only"]
        assert re.search(r":v?\d+\.\d+\.\d+$", compose[name]["image"])
    published = load(MONITORING / "publish.yaml")["services"]
    assert list(published) == ["grafana"]
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"]["ports"])


def test_the_files_that_containers_mount_are_there():
    """A missing file would be mounted as an empty folder."""
    compose = load(ROOT / "compose.yaml")["services"]
    for name in ("prometheus", "grafana"):
        own = [volume.split(":")[0] for volume in compose[name]["volumes"] if volume.startswith("./")]
        assert own
        assert all((ROOT / path).exists() for path in own)


def test_the_dashboard_is_sound():
    """Ids differ, panels do not lie on each other, and all of them read the provisioned source."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    source = load(MONITORING / "grafana" / "datasources" / "prometheus.yml")["datasources"][0]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels():
        assert panel["datasource"]["uid"] == source["uid"]
        assert panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=PATIENCE_S)


@needs_promtool
def test_prometheus_takes_its_configuration(tmp_path):
    """Checked by Prometheus' own tool, rules included."""
    text = (MONITORING / "prometheus.yml").read_text("utf-8")
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", ""))
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should():
    """On made-up series, alert by alert; a sound stack is silent."""
    done = promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(("where", "expression"), asked_by_panels())
def test_the_dashboard_asks_in_promql(tmp_path, where, expression):
    """Each expression parses."""
    told = {"groups": [{"name": "panel", "rules": [{"record": "panel", "expr": expression}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(told))
    done = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert done.returncode == 0, f"{where}: {done.stdout}{done.stderr}"


def test_every_alert_is_tested():
    """An alert that no made-up series sets off may never fire."""
    tested = Path(__file__).with_name("alerts_test.yml").read_text("utf-8")
    assert {rule["alert"] for rule in rules()} <= set(re.findall(r"[A-Z][A-Za-z]+", tested))
