"""The files for running it elsewhere name what exists, and agree with the service's own limits."""

import re
from pathlib import Path

from servease_appt.api.parsing import LARGEST_BODY
from servease_appt.serving.worker import BufferingWorker

ROOT = Path(__file__).parents[2]
NGINX = (ROOT / "deploy/nginx.conf").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_the_proxy_has_the_deadlines_of_the_service() -> None:
    """A client is told the same by either."""
    for name, limit_s in (
        ("client_header_timeout", BufferingWorker.read_timeout_s),
        ("client_body_timeout", BufferingWorker.read_timeout_s),
        ("send_timeout", BufferingWorker.write_timeout_s),
    ):
        assert f"{name} {limit_s:.0f}s;" in NGINX
    assert f"client_max_body_size {LARGEST_BODY // 1024**2}m;" in NGINX


def test_every_error_of_the_proxy_is_json() -> None:
    """Whatever nginx answers itself has a body that a client of the API can read."""
    answered = re.findall(r"return (\d+) '([^']*)'", NGINX)
    assert {status for status, _ in answered} >= {"408", "413", "429", "503"}
    assert all(re.fullmatch(r'\{"detail": "[^"]+\."\}', body) for _, body in answered)


def test_compose_mounts_files_that_exist() -> None:
    """A path that is missing becomes an empty directory in the container."""
    mounted = re.findall(r'"\./([^:"]+):', COMPOSE)
    assert mounted == ["deploy/nginx.conf"]
    assert all((ROOT / path).is_file() for path in mounted)


def test_the_sample_environment_names_what_compose_requires() -> None:
    """Nothing has to be guessed."""
    sample = (ROOT / ".env.example").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    assert required == {"SECRET_KEY", "DB_PASSWORD", "REDIS_PASSWORD"}
    assert all(re.search(rf"^{name}=", sample, re.MULTILINE) for name in required)
