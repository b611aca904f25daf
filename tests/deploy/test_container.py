"""The conditions of a container, without an engine: the image's user, no rights, and nothing writable but /tmp.

A mount namespace of the process's own has the whole file system read-only, as `read_only` of compose and
`readOnlyRootFilesystem` of Kubernetes make it.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import free_port
from tests.deploy.files import ROOT
from tests.support.processes import alive, descendants, owner
from tests.support.served import Client, settings

(USER,) = map(int, re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
SERVE: Final = (sys.executable, "-m", "servease_appt.serving.start", "-c", "gunicorn.conf.py", "wsgi:app")
# A repository below /tmp is put into the empty /tmp.
# $1: a folder that only root may enter and that has the interpreter, or empty. $2: the interpreter's folder in it.
SCRIPT: Final = """
set -e
case "$PWD" in /tmp/*) inside=$PWD; mount --bind /tmp /mnt ;; *) inside= ;; esac
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs /tmp
if [ -n "$inside" ]; then
  mkdir -p "$inside" && mount --bind "/mnt/${inside#/tmp/}" "$inside" && mount -o remount,bind,ro "$inside"
  umount /mnt && cd "$inside"
fi
if [ -n "$1" ]; then
  mkdir /tmp/kept && mount --bind "$2" /tmp/kept
  mount -t tmpfs -o mode=755 tmpfs "$1" && mkdir -p "$2" && mount --bind /tmp/kept "$2"
  umount /tmp/kept && rmdir /tmp/kept && mount -o remount,bind,ro "$1"
fi
mount -o remount,bind,ro /
shift 2
exec setpriv --reuid=USER --regid=USER --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
""".replace("USER", str(USER))


def closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to a file that other users may not enter."""
    ways = reversed(path.parents)
    return next((folder for folder in ways if not folder.stat().st_mode & stat.S_IXOTH), None)


def contained(command: tuple[str, ...]) -> list[str]:
    """Return the command that runs another one under a container's conditions."""
    python = Path(sys.base_prefix).resolve()
    closed = closed_folder(python / "bin")
    unshare = shutil.which("unshare") or "unshare"
    return [unshare, "--mount", "sh", "-c", SCRIPT, "sh", str(closed or ""), str(python), *command]


def environment(**more: str) -> dict[str, str]:
    """Return the variables of the image, and those given."""
    image = dict(re.findall(r"(PYTHON\w+)=(\w+)", (ROOT / "Dockerfile").read_text()))
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **image, **more}


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, unshare and setpriv (util-linux)")
    if closed_folder(ROOT / "wsgi.py") or closed_folder(Path(sys.prefix) / "bin"):
        pytest.skip("the repository or its virtual environment can't be read by another user")
    done = subprocess.run(contained(("true",)), capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"no mount namespace may be made here: {done.stderr.strip()}")


def test_nothing_but_tmp_can_be_written() -> None:
    """Or what follows would prove nothing."""
    probe = (
        'touch /tmp/a && ! touch a && ! touch /var/tmp/a && id -u && grep -E "NoNew|CapBnd" /proc/self/status'
    )
    done = subprocess.run(
        contained(("sh", "-c", probe)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(USER), "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


def test_it_serves_and_stops(
    migrated_postgres_url: str, redis_url: str, fake_services: FakeServices, tmp_path: Path
) -> None:
    """With the command of the image."""
    given = settings(migrated_postgres_url, redis_url, fake_services, WEB_CONCURRENCY="1")
    port = free_port()
    process = GuardedProcess(
        contained(SERVE),
        log=tmp_path / "log",
        directory=ROOT,
        environment=environment(BIND=f"127.0.0.1:{port}", **given),
    )
    try:
        assert wait_until(lambda: is_ready(port), timeout_s=30), process.log_tail()
        with Client(port) as client:
            assert client.get("/api/v1/appointments/").json["count"] == 0
            assert metric_of_the_autoscaler() in client.get("/metrics").body.decode()
        workers = alive(descendants(process.pid))
        assert workers
        assert {owner(pid) for pid in (process.pid, *workers)} == {USER}
    finally:
        process.stop()
    assert process.poll() == 0, process.log_tail()


def metric_of_the_autoscaler() -> str:
    """Return the beginning of its lines in the text for Prometheus."""
    rules = (ROOT / "deploy/kubernetes/adapter-rules.yaml").read_text()
    (series,) = re.findall(r"seriesQuery: '(\w+)", rules)
    return f"\n{series}{{"


def is_ready(port: int) -> bool:
    """Return whether the probe of readiness succeeds."""
    with Client(port) as client:
        try:
            return client.get("/api/v1/health/ready/").status == 200
        except OSError:
            return False
