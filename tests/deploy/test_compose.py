"""The compose files: hardened, wired to what exists, and in agreement with the service. Nothing is started."""

import importlib.util
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from servease_appt.environment import Environment
from tests.deploy.files import COMPOSE_FILES, ROOT, compose, nginx_configuration, required_variables

NGINX = {
    "docker-compose.yml": "deploy/nginx.conf",
    "deploy/compose.replicas.yml": "deploy/nginx-replicas.conf",
}
GUNICORN_OWN = {"FORWARDED_ALLOW_IPS"}
ONE_SHOT = {"roles", "migrate", "grants", "demo-data"}
each_file = pytest.mark.parametrize("file", COMPOSE_FILES)


@pytest.mark.skipif(
    importlib.util.find_spec("check_jsonschema") is None,
    reason="check-jsonschema is not installed (`make check` installs it)",
)
@each_file
def test_it_has_the_form_of_the_specification(file: str) -> None:
    """As the schema of compose-spec.io says, which check-jsonschema brings along."""
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    Draft202012Validator(json.loads(schema)).validate(compose(file))


@each_file
def test_each_container_has_few_rights(file: str) -> None:
    """No capabilities, a read-only file system, no new rights, a limit of memory, and an image of a series."""
    for name, service in compose(file)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) == (name != "postgres"), name
        assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
        assert "mem_limit" in service or name in ONE_SHOT, name
        assert "build" in service or re.search(r":v?\d", service["image"]), name
        assert service.get("user") != "root", name
        assert not service.get("privileged"), name


@each_file
def test_what_serves_comes_back_and_does_not_fill_the_disk(file: str) -> None:
    """After a crash and after a restart of the machine; Docker would keep its logs for ever."""
    for name, service in compose(file)["services"].items():
        if name not in ONE_SHOT and service.get("profiles") != ["demo"]:
            assert service["restart"] == "unless-stopped", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


@each_file
def test_the_service_has_the_time_to_end_what_it_has_begun(file: str) -> None:
    """Docker kills what has not stopped after ten seconds, unless the file gives another time."""
    (graceful_s,) = re.findall(
        r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE
    )
    serving = [
        service
        for service in compose(file)["services"].values()
        if "SECRET_KEY" in service.get("environment", {})
        and service.get("command", ["servease-gunicorn"])[0] == "servease-gunicorn"
    ]
    assert serving
    for service in serving:
        assert int(service["stop_grace_period"].removesuffix("s")) > int(graceful_s)


def test_replicas_listen_when_they_can_answer() -> None:
    """gunicorn listens before its workers have loaded the application, unless that is loaded first."""
    (image,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for number in (1, 2, 3):
        command = compose("deploy/compose.replicas.yml")["services"][f"appointment-{number}"]["command"]
        assert "--preload" in command
        assert [word for word in command if word != "--preload"] == json.loads(image)


@each_file
def test_only_the_proxy_is_reached_from_outside(file: str) -> None:
    """All other ports are those of this machine."""
    for name, service in compose(file)["services"].items():
        for port in service.get("ports", []):
            assert name == "proxy" or port.startswith("127.0.0.1:"), name


@each_file
def test_no_server_is_used_with_all_rights(file: str) -> None:
    """The service is neither PostgreSQL's superuser nor Redis' default user; only the upgrade owns tables."""
    for name, service in compose(file)["services"].items():
        environment = service.get("environment", {})
        if "DB_USER" in environment:
            assert environment["DB_USER"] == ("servease_owner" if name == "migrate" else "servease_service")
            assert "://appointment_service:" in environment["REDIS_URL"]


@each_file
def test_whatever_is_named_exists(file: str) -> None:
    """Mounted files, services that others wait for, modules and scripts that are run, declared volumes."""
    document = compose(file)
    folder = (ROOT / file).parent
    for name, service in document["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (folder / source).exists() if source.startswith(".") else source in document["volumes"]
            assert known, (name, volume)
        assert set(service.get("depends_on", [])) <= set(document["services"]), name
        _runs_something_that_exists(service.get("command", []), folder, service)


def _runs_something_that_exists(command: list[str], folder: Path, service: dict[str, Any]) -> None:
    if command[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(command[2]), command
    elif command[:1] == ["python"]:
        assert (ROOT / command[1]).is_file(), command
    elif command[:1] in (["sh"], ["psql"]):
        path = command[1] if command[0] == "sh" else command[-1]
        mounts = [volume.split(":")[:2] for volume in service["volumes"]]
        (found,) = [
            folder / source / Path(path).relative_to(target)
            for source, target in mounts
            if Path(path).is_relative_to(target)
        ]
        assert found.is_file(), command


@each_file
def test_each_variable_of_the_service_is_one_of_its_settings(file: str) -> None:
    """A misspelt one would be ignored."""
    for name, service in compose(file)["services"].items():
        if "SECRET_KEY" in service.get("environment", {}):
            assert set(service["environment"]) <= set(Environment.NAMES) | GUNICORN_OWN, name


def test_the_sample_environment_and_its_script_name_what_is_required() -> None:
    """Nothing has to be guessed; each secret is another one, and of letters and digits."""
    required = set().union(*map(required_variables, COMPOSE_FILES))
    sample = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    made = [
        dict(line.split("=", 1) for line in _run_script("deploy/new-env.sh").splitlines()) for _ in range(2)
    ]
    assert required <= sample
    assert set(made[0]) == sample
    values = [*made[0].values(), *made[1].values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9]{48}", value) for value in values)


def _run_script(path: str) -> str:
    done = subprocess.run(["sh", str(ROOT / path)], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


@pytest.mark.parametrize(("file", "nginx"), NGINX.items())
def test_the_proxy_passes_on_to_services_that_exist(file: str, nginx: str) -> None:
    """Each upstream server is a service of the file that mounts this configuration."""
    services = compose(file)["services"]
    servers = re.findall(r"^ +server ([\w-]+):8005", (ROOT / nginx).read_text(), re.MULTILINE)
    assert servers
    assert set(servers) <= set(services)
    assert Path(services["proxy"]["volumes"][0].split(":")[0]).name == Path(nginx).name


@pytest.mark.parametrize(("file", "nginx"), NGINX.items())
def test_the_proxy_follows_a_container_to_another_address(file: str, nginx: str) -> None:
    """It asks Docker's name server again, which the image's nginx has to know how to do (1.27.3)."""
    text = (ROOT / nginx).read_text()
    servers = re.findall(r"^ +server [\w-]+:8005 (.*);", text, re.MULTILINE)
    assert servers
    assert all("resolve" in options.split() for options in servers)
    assert re.search(r"resolver 127\.0\.0\.11 valid=\d+s", text)
    assert re.search(r"^ +zone ", text, re.MULTILINE)
    (version,) = re.findall(r":(\d+)\.(\d+)", compose(file)["services"]["proxy"]["image"])
    assert tuple(map(int, version)) > (1, 27)


@pytest.mark.parametrize("nginx", NGINX.values())
def test_nginx_understands_the_configuration(nginx: str, tmp_path: Path) -> None:
    """With its own check; the names of other containers are replaced, since it looks them up."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    text = nginx_configuration(nginx, "127.0.0.1:8005")
    (tmp_path / "nginx.conf").write_text(text.replace(" /tmp/", f" {tmp_path}/"))
    command = [program, "-t", "-q", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_profiles_add_to_the_platform_and_change_nothing() -> None:
    """Without a profile none of their containers starts, and the demo's fakes have the names of the defaults."""
    services = compose("docker-compose.yml")["services"]
    by_profile = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert {name for name, profiles in by_profile.items() if profiles == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    fakes = {
        name: service["command"][2:4]
        for name, service in services.items()
        if name.endswith("-service") and "profiles" in service
    }
    assert set(by_profile) == {"prometheus", "grafana", "demo-data", *fakes}
    defaults = {
        kind: Environment().fields[f"{kind}_service_url"].load_default
        for kind in ("customer", "employee", "vehicle")
    }
    assert {kind: f"http://{name}:{port}" for name, (kind, port) in fakes.items()} == defaults


def test_prometheus_scrapes_the_service_with_its_token() -> None:
    """The target is a service, and the file with the token is the one that the container writes."""
    services = compose("docker-compose.yml")["services"]
    text = (ROOT / "monitoring/prometheus.yml").read_text()
    (target,) = re.findall(r'targets: \["([\w-]+):8005"\]', text)
    (file,) = re.findall(r"credentials_file: ([^ }]+)", text)
    assert target in services
    assert f"> {file};" in services["prometheus"]["entrypoint"][2]
    assert Path(file).parent.as_posix() in services["prometheus"]["tmpfs"]
    assert services["appointment-service"]["environment"]["METRICS_TOKEN"]
    promtool = shutil.which("promtool")
    if promtool is not None:
        command = [promtool, "check", "config", "--syntax-only", str(ROOT / "monitoring/prometheus.yml")]
        subprocess.run(command, capture_output=True, check=True, timeout=30)


def test_grafana_finds_its_data_and_its_dashboard() -> None:
    """The data source is the Prometheus of the file; the dashboard is where its provider looks."""
    services = compose("docker-compose.yml")["services"]
    provisioning = ROOT / "monitoring/grafana/provisioning"
    (host,) = re.findall(
        r"url: http://([\w-]+):9090", (provisioning / "datasources/prometheus.yml").read_text()
    )
    (folder,) = re.findall(r"path: (\S+) \}", (provisioning / "dashboards/files.yml").read_text())
    mounts = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert host in services
    assert [mount for mount in mounts if Path(mount).parent.as_posix() == folder]
    assert "/etc/grafana/provisioning" in mounts
    json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """The image's recipe keeps to the common rules."""
    linter = shutil.which("hadolint", path=str(ROOT / ".venv/bin")) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (`make check` installs it)")
    done = subprocess.run(
        [linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_with_a_health_check() -> None:
    """Two stages, of which the second has neither a compiler's leftovers nor a user with rights."""
    text = (ROOT / "Dockerfile").read_text()
    _, last = text.split("FROM ${BASE}\n")
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "/api/v1/health/" in last
    assert "pip install" not in last
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for names in copied for name in names.split()} <= set(let_in)
