"""What the real helm renders, held against Kubernetes' schemas and the rest of the repository."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from teleop_export.hub.settings import HubSettings
from teleop_export.settings import ExportSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.settings import IngestSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "lerobot-backend"
HELM = shutil.which("helm", path=str(Path(sys.executable).parent)) or "helm"
# The chart's kubeVersion says from which on; the newest that the schemas know is validated, too.
KUBERNETES = ("1.27", "1.33")
CRD_GROUP = "monitoring.coreos.com"
SETTINGS = {
    "telemetry-service": [TelemetrySettings],
    "video-ingest-service": [IngestSettings],
    "export-service": [ExportSettings, HubSettings, WebhookSettings],
    "export-worker": [ExportSettings, HubSettings, WebhookSettings],
}
EXTERNAL = {
    "image": {"registry": "registry.example.org/", "pullSecrets": [{"name": "pull"}]},
    "database": {"address": "db.example.org:6432/robots", "existingSecret": "db"},
    "store": {"url": "s3://robots/backend", "existingSecret": "s3"},
    "hub": {"existingSecret": "hub"},
    "retentionDays": 90,
    "robotQuotaGb": 100,
    "ingress": {"enabled": True, "host": "robots.example.org", "tlsSecret": "robots-tls"},
    "proxies": "10.42.0.0/16",
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"proxyFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
    "nodeSelector": {"pool": "robots"},
    "tolerations": [{"key": "robots", "operator": "Exists"}],
}
VALUES: dict[str, dict[str, Any]] = {
    "trying out": {},
    "external": EXTERNAL,
    "own roles": {
        "database": {"address": "db:5432/lerobot", "existingSecret": "db", "prepare": False},
        "files": {"existingClaim": "nfs", "accessMode": "ReadWriteOnce"},
        "networkPolicy": {"enabled": False},
        "services": {"telemetry-service": {"autoscaling": False, "replicas": 5}},
    },
}


def helm(*arguments: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [HELM, *arguments, "--values", "-"]
    return subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, timeout=PATIENCE_S
    )


@cache
def rendered(name: str) -> list[dict[str, Any]]:
    done = helm("template", "backend", str(CHART), "--namespace", "robots", values=VALUES[name])
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in rendered(name) if each["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Component, specification and labels of every pod that would be made."""
    for each in of_kind(name, "Deployment", "StatefulSet", "Job"):
        template = each["spec"]["template"]
        labels = template["metadata"]["labels"]
        yield labels["app.kubernetes.io/component"], template["spec"], labels


def container(name: str, pod: str) -> dict[str, Any]:
    return next(spec["containers"][0] for each, spec, _ in pods(name) if each == pod)


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    told = selector.get("matchLabels", {}).items() <= labels.items()
    return told and all(
        labels[each["key"]] in each["values"] for each in selector.get("matchExpressions", [])
    )


@pytest.fixture(params=VALUES)
def name(request) -> str:
    return request.param


def test_lint_finds_nothing(name):
    """Strictly, warnings included."""
    done = helm("lint", "--strict", str(CHART), values=VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest(name, version):
    """Each is what the schemas of Kubernetes say, without a field that they do not know."""
    for each in rendered(name):
        if not each["apiVersion"].startswith(CRD_GROUP):
            kubernetes_validate.validate(each, version, strict=True)


def test_names_are_unique(name):
    """No manifest replaces another."""
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(name)]
    assert len(set(names)) == len(names)


def test_no_container_has_rights(name):
    """As in compose.yaml: nobody is root, roots are read-only, no privilege can be gained."""
    for pod, spec, _ in pods(name):
        security = spec["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] == (999 if pod == "postgres" else 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for each in spec["containers"]:
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert not each["securityContext"]["allowPrivilegeEscalation"]
            capabilities = each["securityContext"]["capabilities"]
            assert capabilities["drop"] == ["ALL"]
            assert capabilities.get("add") == (["NET_BIND_SERVICE"] if pod == "proxy" else None)


def test_every_container_is_limited_and_requested(name):
    """Memory has a limit; CPU a request, by which autoscaling reckons, and no limit, which only delays."""
    for _, spec, _ in pods(name):
        for each in spec["containers"]:
            assert "memory" in each["resources"]["limits"]
            assert "cpu" not in each["resources"]["limits"]
            assert {"cpu", "memory"} <= each["resources"]["requests"].keys()


def test_whatever_listens_is_probed(name):
    """Ready by /readyz, alive by /healthz: a database that is away must not have services killed."""
    for pod, spec, _ in pods(name):
        (each,) = spec["containers"]
        if not each.get("ports"):
            assert pod in ("export-worker", "migrate")
            continue
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= each.keys()
        if pod != "postgres":
            assert each["livenessProbe"]["httpGet"]["path"] == "/healthz"
            ready = "/healthz" if pod == "proxy" else "/readyz"
            assert each["readinessProbe"]["httpGet"]["path"] == ready


def test_images_are_those_of_compose(name):
    """The same names, each with a tag that stays what it is."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    built = {each["image"] for each in services["services"].values() if "build" in each}
    registry = VALUES[name].get("image", {}).get("registry", "")
    for pod, spec, _ in pods(name):
        image, tag = spec["containers"][0]["image"].rsplit(":", 1)
        assert tag
        assert tag != "latest"
        if pod == "postgres":
            assert f"{image}:{tag}" == services["services"]["postgres"]["image"]
        else:
            assert image.removeprefix(registry) in built
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_every_variable_is_a_setting_of_its_service(name):
    """A variable that no service reads would be a setting without effect."""
    for pod, kinds in SETTINGS.items():
        known = {
            field.validation_alias or field.alias or field_name
            for kind in kinds
            for field_name, field in kind.model_fields.items()
        }
        told = {each["name"] for each in container(name, pod).get("env", [])}
        # Where huggingface_hub keeps its own files.
        assert told - {"HF_HOME"} <= known
        assert {"LEROBOT_BACKEND_EXPOSURE", "STORE_URL"} <= told


def test_services_start_with_what_they_are_told(name):
    """The values themselves are accepted by the settings of each service."""
    for pod, (kind, *_) in SETTINGS.items():
        told = {each["name"]: each["value"] for each in container(name, pod)["env"] if "value" in each}
        kind(_env_file=None, DATABASE_URL="postgresql://a:b@c:5432/d", **told)


def test_ports_are_those_that_the_services_listen_on(name):
    """The proxy's routes, the images and the chart say the same."""
    routes = (ROOT / "deploy" / "proxy" / "routes.caddy").read_text("utf-8")
    images = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    headless = {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "Service")}
    for service, port in re.findall(r"forward_auth ([a-z-]+):(\d+)", routes):
        assert headless[service]["clusterIP"] == "None"
        assert headless[service]["ports"][0]["port"] == int(port)
        assert container(name, service)["ports"][0]["containerPort"] == int(port)
        assert images[service]["build"]["args"]["PORT"] == int(port)
    for service, spec in headless.items():
        assert [pod for pod, _, labels in pods(name) if spec["selector"].items() <= labels.items()] == [
            service
        ]


def test_budgets_and_scalers_are_about_their_deployments(name):
    """A budget matches the pods of one deployment, and a scaler names it; replicas are said in one place."""
    deployments = {each["metadata"]["name"]: each for each in of_kind(name, "Deployment")}
    assert deployments.keys() == {"proxy", *SETTINGS}
    for budget in of_kind(name, "PodDisruptionBudget"):
        found = [pod for pod, _, labels in pods(name) if matches(budget["spec"]["selector"], labels)]
        assert found == [budget["metadata"]["name"]]
    assert {each["metadata"]["name"] for each in of_kind(name, "PodDisruptionBudget")} == deployments.keys()
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(name, "HorizontalPodAutoscaler")}
    assert scaled == {each for each, told in deployments.items() if "replicas" not in told["spec"]}
    for each in of_kind(name, "HorizontalPodAutoscaler"):
        assert each["spec"]["minReplicas"] <= each["spec"]["maxReplicas"]


def test_whatever_is_mounted_exists(name):
    """Volumes are declared, claims and secrets made by the chart or named in the values."""
    made = {(each["kind"], each["metadata"]["name"]): each for each in rendered(name)}
    named = {"db", "s3", "hub", "nfs"}
    for _, spec, _ in pods(name):
        volumes = {each["name"]: each for each in spec["volumes"]}
        claimed = {"data"} if ("StatefulSet", "postgres") in made else set()
        for mount in spec["containers"][0]["volumeMounts"]:
            assert mount["name"] in volumes.keys() | claimed
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in named or ("PersistentVolumeClaim", claim["claimName"]) in made
            if secret := volume.get("secret"):
                if secret["secretName"] in named:
                    continue
                keys = made["Secret", secret["secretName"]]["stringData"].keys()
                assert {item["key"] for item in secret["items"]} <= keys


def test_a_service_sees_its_own_address_of_the_database_only(name):
    """No pod but the one that makes the roles has more than one password."""
    for pod, role in zip(SETTINGS, ("telemetry", "ingest", "export", "export"), strict=True):
        spec = next(spec for each, spec, _ in pods(name) if each == pod)
        secrets = [each["secret"] for each in spec["volumes"] if "secret" in each]
        assert [each["items"] for each in secrets] == [[{"key": f"{role}-url", "path": "DATABASE_URL"}]]


def test_roles_are_those_that_the_setup_makes():
    """The setup image reads a file a role, under the names that it knows itself."""
    path = ROOT / "deploy" / "setup" / "make_secrets.py"
    spec = importlib.util.spec_from_file_location("make_secrets", path)
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    roles = {setup.SUPERUSER, setup.MIGRATION, *setup.SERVICES, setup.READER}
    job = next(spec for pod, spec, _ in pods("trying out") if pod == "migrate")
    secret = next(each["secret"] for each in job["volumes"] if "secret" in each)
    assert {item["path"] for item in secret["items"]} == roles
    (made,) = of_kind("trying out", "Secret")
    for service in setup.SERVICES:
        password = made["stringData"][service]
        url = f"postgresql://{service}:{password}@postgres:5432/lerobot"
        assert made["stringData"][f"{service}-url"] == url
        assert len(password) >= 40
    assert len({made["stringData"][role] for role in roles}) == len(roles)


def test_migrations_come_before_the_services():
    """As a hook where the database is there before the chart, as a job of the release where it is not."""
    (hook,) = of_kind("external", "Job")
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (job,) = of_kind("trying out", "Job")
    assert "annotations" not in job["metadata"]
    assert job["metadata"]["name"] == "migrate-1"
    (own,) = of_kind("own roles", "Job")
    (each,) = own["spec"]["template"]["spec"]["containers"]
    assert each["command"] == ["python", "-m", "teleop_schema.migrate"]
    assert [variable["name"] for variable in each["env"]] == ["DATABASE_URL"]


def test_recorded_data_outlives_the_chart():
    """Volume and passwords stay when the chart is removed."""
    for kind in ("PersistentVolumeClaim", "Secret"):
        (each,) = of_kind("trying out", kind)
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_an_ingress_with_a_certificate_is_the_internet():
    """There, the controller alone knows who came by HTTPS; whoever has a network of their own can say so."""
    for name, exposure in (("trying out", "lab"), ("external", "internet")):
        env = {each["name"]: each.get("value") for each in container(name, "telemetry-service")["env"]}
        assert env["LEROBOT_BACKEND_EXPOSURE"] == exposure

    def told(**values: Any) -> str:
        done = helm("template", "backend", str(CHART), values={**EXTERNAL, **values})
        return done.stderr if done.returncode else done.stdout

    assert "trustNetwork=false" in told(trustNetwork=True)
    assert "proxies: name the addresses" in told(proxies="127.0.0.1/32")
    assert "value: lab}" in told(exposure="lab", trustNetwork=True).replace("\n", "}")


def test_the_ingress_lets_large_bodies_and_websockets_through():
    """Nothing is gathered before it is passed on, and silence for an hour is no reason to hang up."""
    assert not of_kind("trying out", "Ingress")
    (ingress,) = of_kind("external", "Ingress")
    told = {key.rsplit("/", 1)[1]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert told["proxy-body-size"] == "0"
    assert told["proxy-request-buffering"] == told["proxy-buffering"] == "off"
    assert int(told["proxy-read-timeout"]) >= 3600
    assert ingress["spec"]["tls"] == [{"hosts": ["robots.example.org"], "secretName": "robots-tls"}]
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "proxy", "port": {"name": "http"}}


def test_only_who_must_may_talk_to_whom():
    """Every pod that stays has a policy; services hear the proxy and Prometheus, the database its clients."""
    assert not of_kind("own roles", "NetworkPolicy")
    for name in ("trying out", "external"):
        policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "NetworkPolicy")}
        for pod, _, labels in pods(name):
            chosen = [each for each, spec in policies.items() if matches(spec["podSelector"], labels)]
            assert chosen == ([] if pod == "migrate" else [pod])
        database_port = 6432 if name == "external" else 5432
        for pod in SETTINGS:
            heard = policies[pod].get("ingress", [])
            told = {port["port"] for rule in policies[pod]["egress"] for port in rule["ports"]}
            assert told == {53, database_port, 443}
            assert bool(heard) == (pod != "export-worker")
            assert all("from" in rule for rule in heard)
    heard = policies_of("trying out")["postgres"]["ingress"][0]["from"][0]["podSelector"]
    allowed = {pod for pod, _, labels in pods("trying out") if matches(heard, labels)}
    assert allowed == {*SETTINGS, "migrate"}


def policies_of(name: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "NetworkPolicy")}


def test_alerts_are_those_of_compose():
    """The operator's rules are the same file, and the monitor names jobs as the rules know them."""
    (rule,) = of_kind("external", "PrometheusRule")
    path = ROOT / "deploy" / "monitoring" / "alerts.yml"
    assert rule["spec"] == yaml.safe_load(path.read_text("utf-8"))
    (monitor,) = of_kind("external", "ServiceMonitor")
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/component"
    watched = [
        each["metadata"]["name"]
        for each in of_kind("external", "Service")
        if matches(monitor["spec"]["selector"], each["metadata"]["labels"])
    ]
    assert sorted(watched) == ["export-service", "telemetry-service", "video-ingest-service"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"databse": {}}, "databse"),
        ({"database": {"address": "db.example.org"}}, "database.address"),
        ({"database": {"address": "db:5432/lerobot"}}, "database.existingSecret"),
        ({"store": {"url": "gs://bucket"}}, "store.url"),
        ({"image": {"registry": "registry.example.org"}}, "image.registry"),
        ({"image": {"tag": "latest"}}, "image.tag"),
        ({"services": {"telemetry-service": {"replicas": 0}}}, "replicas"),
        ({"retentionDays": -1}, "retentionDays"),
        ({"robotQuotaGb": -1}, "robotQuotaGb"),
    ],
)
def test_wrong_values_are_named(values, told):
    """The mistake is told by the name of its field, before anything is installed."""
    done = helm("template", "backend", str(CHART), values=values)
    assert done.returncode != 0
    assert told in done.stderr
