"""nginx with the configuration of deploy/, in front of the service: what it hides, hands on and answers itself."""

import http.client
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.deploy.files import nginx_configuration
from tests.support.dataset import SECRET
from tests.support.gunicorn import Gunicorn

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")

EMPTY: Mapping[str, str] = {}
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def port(valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The proxy's port, with one worker behind it."""
    folder = Path(tmp_path_factory.mktemp("proxy"))
    settings = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "REDIS_URL": valkey.url(1),
    }
    with Gunicorn(settings, folder, workers=1) as gunicorn, proxy(folder, gunicorn.port) as port:
        yield port


@contextmanager
def proxy(folder: Path, service: int) -> Iterator[int]:
    """Run nginx in front of a port until the block ends. Yields its own port."""
    port = free_port()
    text = nginx_configuration("deploy/nginx.conf", f"127.0.0.1:{service}")
    text = text.replace("listen 8005", f"listen 127.0.0.1:{port}").replace(" /tmp/", f" {folder}/")
    (folder / "nginx.conf").write_text(f"daemon off;\n{text}")
    command = [str(NGINX), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    nginx = GuardedProcess(command, log=folder / "nginx.log")
    try:
        assert wait_until(lambda: _answers(port), timeout_s=20), nginx.log_tail()
        yield port
    finally:
        nginx.stop()


def _answers(port: int) -> bool:
    try:
        return bool(ask(port, "/health/")[0])
    except OSError:
        return False


def ask(
    port: int, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] = EMPTY
) -> Answer:
    """Send one request through the proxy, with the path as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/metrics/",
        "/metrics?x=1",
        "//metrics",
        "/%6detrics",
        "/metrics%2f",
        "/x/../metrics",
        "/./metrics",
        "/api/v1/metrics",
        "/api/v1/metrics/",
        "/api//v1/metrics",
        "/api%2fv1/metrics",
        "/api/v1/../../metrics",
    ],
)
def test_no_spelling_of_the_metrics_gets_through(port: int, path: str) -> None:
    """nginx compares the path that is meant, and hands on the one that was sent."""
    status, headers, body = ask(port, path)
    assert status == 404
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert b"servease_" not in body
    assert b"detail" in body


@pytest.mark.parametrize(
    ("seen", "secure"), [("https", True), ("http", False), ("https, http", False), (None, False)]
)
def test_the_scheme_that_a_proxy_before_it_has_seen_is_handed_on(
    port: int, seen: str | None, secure: bool
) -> None:
    """So that the service requires HTTPS where it was used. Headers that would disagree are taken off."""
    headers = {"X-Forwarded-Ssl": "on", "X-Forwarded-Protocol": "ssl"}
    if seen is not None:
        headers["X-Forwarded-Proto"] = seen
    status, answered, _ = ask(port, "/health/", headers=headers)
    assert status == 200
    assert ("Strict-Transport-Security" in answered) == secure


def test_what_is_too_large_is_json_with_413(port: int) -> None:
    """Before the service sees it."""
    status, headers, body = ask(port, "/api/v1/appointments/", "POST", b"x" * 1_100_000)
    assert (status, headers["Content-Type"]) == (413, "application/json")
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert re.fullmatch(rb'\{"detail": "[^"]+"\}', body)


def test_a_service_that_does_not_answer_is_503(tmp_path: Path) -> None:
    """As the service itself says it, with the time after which to ask again; not nginx' 502."""
    with proxy(tmp_path, free_port()) as port:
        status, headers, body = ask(port, "/api/v1/appointments/", "POST", b"{}")
    assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "1", "application/json")
    assert b"detail" in body
