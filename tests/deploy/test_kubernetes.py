"""The Kubernetes example: valid, and in agreement with itself and with the service."""

import importlib.util
import re
from typing import Any

import pytest
import yaml
from flask import Flask

import servease_appt
from servease_appt.api.routing import host_allowed
from servease_appt.app import create_app
from servease_appt.db.deadlines import DEADLINE_S
from servease_appt.environment import Environment
from servease_appt.observability.metrics import HTTP
from servease_appt.settings import Settings
from tests.deploy.files import KUBERNETES, ROOT, manifests
from tests.deploy.test_compose import GUNICORN_OWN

EXAMPLES = {"secret.example.yaml", "adapter-rules.yaml", "kustomization.yaml"}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """Return the documents of a kind by name."""
    every = [document for documents in manifests().values() for document in documents]
    return {document["metadata"]["name"]: document for document in every if document["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod templates of the deployment and the job."""
    return {
        name: document["spec"]["template"]
        for kind in ("Deployment", "Job")
        for name, document in of_kind(kind).items()
    }


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="kubernetes-validate is not installed (`make check` installs it)",
)
@pytest.mark.parametrize("file", sorted(manifests()))
def test_it_has_the_form_that_kubernetes_takes(file: str) -> None:
    """By the strict schemas of its API: an unknown field is an error."""
    validator = importlib.import_module("kubernetes_validate")
    for document in manifests()[file]:
        validator.validate(document, validator.latest_version(), strict=True)


def test_kustomize_takes_every_file_but_the_examples() -> None:
    """A file that is not listed would never be applied."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in KUBERNETES.glob("*.yaml") if p.name not in EXAMPLES)


def test_selectors_find_the_pods() -> None:
    """Deployment, service, disruption budget and network policy mean the pods of the deployment."""
    labels = pods()["appointment-service"]["metadata"]["labels"]
    selectors = [
        of_kind("Deployment")["appointment-service"]["spec"]["selector"]["matchLabels"],
        of_kind("Service")["appointment-service"]["spec"]["selector"],
        of_kind("PodDisruptionBudget")["appointment-service"]["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["appointment-service"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    job = pods()["appointment-service-migrate"]["metadata"]["labels"]
    assert not selectors[1].items() <= job.items()


@pytest.mark.parametrize("name", sorted(pods()))
def test_pods_have_few_rights(name: str) -> None:
    """What the policy `restricted` of the namespace asks for, and the user of the image."""
    spec = pods()[name]["spec"]
    (user,) = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == int(user)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["image"].endswith(f":{servease_appt.__version__}")


def test_every_setting_is_known_and_every_source_of_settings_exists() -> None:
    """A misspelt name would be ignored; a missing secret would keep the pods from starting."""
    sources = {**of_kind("ConfigMap"), **of_kind("Secret")}
    for document in sources.values():
        named = set(document.get("data", {})) | set(document.get("stringData", {}))
        assert named <= set(Environment.NAMES) | GUNICORN_OWN
    for pod in pods().values():
        for source in pod["spec"]["containers"][0]["envFrom"]:
            (reference,) = source.values()
            assert reference["name"] in sources
    needed = {**of_kind("ConfigMap")["appointment-service"]["data"]}
    needed |= of_kind("Secret")["appointment-service"]["stringData"]
    Settings.from_mapping({**needed, "SECRET_KEY": "k3" * 16})


@pytest.fixture
def app() -> Flask:
    """The application, connected to nothing."""
    return create_app(Settings.from_mapping({"SECRET_KEY": "k3" * 16, "DATABASE_URL": "postgresql://h/d"}))


def test_probes_ask_for_what_the_service_answers(app: Flask) -> None:
    """Alive without any server; ready by the route that needs PostgreSQL, with more time than its deadline."""
    (container,) = pods()["appointment-service"]["spec"]["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    routes = {str(rule) for rule in app.url_map.iter_rules()}
    assert set(paths.values()) <= routes
    assert app.test_client().get(paths["liveness"], headers={"Host": "10.1.2.3:8005"}).status_code == 200
    assert paths["readiness"].endswith("/ready/")
    assert container["readinessProbe"]["timeoutSeconds"] > DEADLINE_S
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8005}
    assert of_kind("Service")["appointment-service"]["spec"]["ports"][0]["targetPort"] == "http"
    app.extensions["servease"].close()


def test_a_pod_may_end_what_it_has_begun() -> None:
    """The grace period holds the pause of preStop and gunicorn's own grace."""
    spec = pods()["appointment-service"]["spec"]
    (_, pause_s) = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    (graceful_s,) = re.findall(
        r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE
    )
    assert spec["terminationGracePeriodSeconds"] > int(pause_s) + int(graceful_s)


def test_the_autoscaler_goes_by_a_metric_that_is_exported() -> None:
    """By the name that prometheus-adapter gives to a histogram's count of this service."""
    spec = of_kind("HorizontalPodAutoscaler")["appointment-service"]["spec"]
    (rule,) = yaml.safe_load((KUBERNETES / "adapter-rules.yaml").read_text())["rules"]["custom"]
    assert spec["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert spec["metrics"][0]["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].partition("{")[0] == f"{HTTP}_count"
    assert "replicas" not in of_kind("Deployment")["appointment-service"]["spec"]
    assert (
        spec["minReplicas"] > of_kind("PodDisruptionBudget")["appointment-service"]["spec"]["maxUnavailable"]
    )


def test_the_network_is_open_for_what_the_settings_name() -> None:
    """Every server and service that is asked, and no other port."""
    rules = of_kind("NetworkPolicy")["appointment-service"]["spec"]
    open_ports = {port["port"] for rule in rules["egress"] for port in rule["ports"]}
    settings = {**of_kind("ConfigMap")["appointment-service"]["data"]}
    settings |= of_kind("Secret")["appointment-service"]["stringData"]
    urls = " ".join(value for name, value in settings.items() if name.endswith("_URL"))
    asked = {int(port) for port in re.findall(r":(\d{4,5})\b", urls)}
    assert open_ports == asked | {53, 6379}
    assert {port["port"] for rule in rules["ingress"] for port in rule["ports"]} == {8005}


def test_the_other_services_of_the_platform_get_in() -> None:
    """By the name of the service: they read appointments, and invalidate what they have changed."""
    hosts = Settings.from_mapping(
        {
            **of_kind("ConfigMap")["appointment-service"]["data"],
            "SECRET_KEY": "k3" * 16,
            "DATABASE_URL": "postgresql://h/d",
        }
    ).allowed_hosts
    ((name, service),) = of_kind("Service").items()
    assert host_allowed(f"{name}:{service['spec']['ports'][0]['port']}", hosts)
    assert host_allowed(name + ".servease.svc.cluster.local", hosts)
    ingress = of_kind("NetworkPolicy")["appointment-service"]["spec"]["ingress"]
    assert {"podSelector": {}} in ingress[0]["from"]
