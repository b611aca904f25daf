"""Run the whole service with all servers that it needs, until Ctrl-C."""

import argparse
import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from servease_appt.dashboard.links import PATH, dashboard_link
from servease_appt.db.migrate import upgrade
from servease_appt.demo.measurement import Measurement, Meter
from servease_appt.demo.report import checks, comparison, demo_tokens, invitation
from servease_appt.demo.sample_data import DemoData
from servease_appt.demo.web import start_service
from servease_appt.settings import Settings, SettingsError
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import GuardedProcess, ProcessError
from servease_appt.testing.servers import HOST, EmbeddedPostgres, EmbeddedValkey, free_port

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
# The SECRET_KEY is made for each run and ends with it, so what it signs need not expire before.
_LIFETIME = timedelta(days=30)
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OPTIONS = {
    "port": (8005, "the appointment service"),
    "customer_port": (8002, "the fake customer service"),
    "employee_port": (8003, "the fake employee service"),
    "vehicle_port": (8004, "the fake vehicle service"),
}


def main() -> int:
    """Run the demo. Returns the exit code: 0, or 1 if a step or a check failed."""
    arguments = _parse(sys.argv[1:])
    for number in _STOPPING:
        signal.signal(number, _interrupt)
    say = _Progress()
    try:
        with contextlib.ExitStack() as running:
            return _run(arguments, say, running)
    except KeyboardInterrupt:
        say("Stopped; nothing is left running")
        return 0
    except (ProcessError, SettingsError) as error:
        print(f"\nThe demo can't start: {error}", file=sys.stderr)
        return 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the stop
    raise KeyboardInterrupt


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="check what is printed, stop, and exit with 0 or 1"
    )
    parser.add_argument(
        "--delay", type=float, default=50, metavar="MS", help="what an upstream call takes (50)"
    )
    for name, (port, what) in _OPTIONS.items():
        parser.add_argument(
            _flag(name), type=int, default=port, metavar="N", help=f"port of {what} ({port}); 0: any"
        )
    return parser.parse_args(words)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Progress:
    """Prints a line for each step with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)


def _run(arguments: argparse.Namespace, say: _Progress, running: contextlib.ExitStack) -> int:
    ports = usable_ports({name: getattr(arguments, name) for name in _OPTIONS})
    directory = running.enter_context(_own_directory())

    postgres = running.enter_context(EmbeddedPostgres(directory / "postgres"))
    say(f"PostgreSQL on {HOST}:{postgres.port}")
    valkey = running.enter_context(EmbeddedValkey(directory / "valkey"))
    say(f"Valkey, which speaks Redis' protocol, on {HOST}:{valkey.port}")
    three = (ports["customer_port"], ports["employee_port"], ports["vehicle_port"])
    fake_services = running.enter_context(
        FakeServices(directory, delay_s=arguments.delay / 1000, ports=three)
    )
    say(
        "Fake services for the customer, employee and vehicle services on"
        f" {', '.join(str(service.port) for service in fake_services.all)}, {arguments.delay:g} ms each"
    )

    environment = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": postgres.create_database("servease_appointments"),
        "REDIS_URL": valkey.url(1),
        **fake_services.settings,
    }
    settings = Settings.from_mapping({**os.environ, **environment})
    upgrade(settings.database_url)
    say("Tables made (flask --app wsgi db upgrade)")
    data = _fill(settings, fake_services)
    say(
        f"Filled in: {len(data.schedule.appointments)} appointments, {len(data.people.customers)} customers,"
        f" {len(data.people.employees)} employees, {len(data.people.vehicles)} vehicles"
    )

    service = start_service(ROOT, directory, ports["port"], environment, workers=WORKERS)
    running.callback(service.stop)
    say(f"gunicorn with {WORKERS} workers on {HOST}:{ports['port']}")
    tokens = demo_tokens(settings.secret_key, data, _LIFETIME)
    measurement = Meter(ports["port"], tokens["admin"], settings.redis_url, fake_services).measure()
    print("", *comparison(measurement), "", sep="\n", flush=True)

    if arguments.check:
        return _print_checks(measurement)

    base_url = f"http://{HOST}:{ports['port']}"
    files = {role: _own_file(directory / f"{role}-token", token) for role, token in tokens.items()}
    in_shell = {role: f"$(cat {shlex.quote(str(file))})" for role, file in files.items()}
    print(*invitation(base_url, in_shell, data, fake_services.customers.url), sep="\n")
    renamed = data.people.customers[0]["id"]
    print(*_operators_lines(directory / "environment", environment, renamed), sep="\n")
    link = dashboard_link(base_url, settings.secret_key, int(_LIFETIME.total_seconds()))
    print(f"\nThe API to try out:     {base_url}/docs")
    print(f"The cache's dashboard:  {base_url}{PATH} (paste the token in {files['admin'].relative_to(ROOT)},")
    print(f"                        or open this once)\n  {link}\n", flush=True)
    say("Serving until Ctrl-C")
    return _serve(service)


def _fill(settings: Settings, fake_services: FakeServices) -> DemoData:
    data = DemoData.make(datetime.now(UTC), settings.business_timezone)
    data.insert(settings.database_url)
    fake_services.customers.put(*data.people.customers)
    fake_services.employees.put(*data.people.employees)
    fake_services.vehicles.put(*data.people.vehicles)
    return data


def _print_checks(measurement: Measurement) -> int:
    results = list(checks(measurement))
    for good, text in results:
        print("ok  " if good else "FAIL", text)
    return 0 if all(good for good, _ in results) else 1


def _serve(service: GuardedProcess) -> int:
    while service.wait(3600) is None:
        pass
    raise ProcessError(f"gunicorn has ended:\n{service.log_tail()}")


def _operators_lines(file: Path, environment: Mapping[str, str], customer_id: str) -> Iterator[str]:
    """Yield shell lines for the cache's commands, and write the environment that they read to `file`."""
    _own_file(file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()))
    cache = f"{shlex.quote(str(_flask()))} --app wsgi cache"
    yield "# What an operator sees, in the service's environment and this folder: what Redis and each worker"
    yield "# hold of that customer, and whether all is well"
    yield f". {shlex.quote(str(file.relative_to(ROOT)))}"
    yield f"{cache} explain customer {customer_id}"
    yield f"{cache} doctor"


def _own_file(file: Path, text: str) -> Path:
    """Write a file that only this user can read, since it holds secrets."""
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def _flask() -> Path:
    command = Path(sys.executable).with_name("flask")
    return command.relative_to(ROOT) if command.is_relative_to(ROOT) else command


def usable_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Return the ports by the names of their options, and a free one in place of each 0.

    Raises:
        ProcessError: ports are in use; the text names all of them, and the options that pick others.
    """
    problems = {name: reason for name, port in wanted.items() if (reason := _why_unusable(port))}
    if problems:
        taken = "\n".join(
            f"  port {wanted[name]}, for {_OPTIONS[name][1]}: {reason}" for name, reason in problems.items()
        )
        others = " ".join(f"{_flag(name)} {free_port()}" for name in problems)
        raise ProcessError(f"a port can't be used\n{taken}\nChoose another with: make demo ARGS='{others}'")
    return {name: port or free_port() for name, port in wanted.items()}


def _why_unusable(port: int) -> str:
    """Return why the port can't be listened on; empty if it can, and for 0."""
    if not 0 <= port <= 65535:
        return "no such port"
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)  # create_server adds the address to it
    return ""


@contextlib.contextmanager
def _own_directory() -> Iterator[Path]:
    """Create a directory for this run in `.demo`, and remove both at the end.

    Raises:
        ProcessError: the demo is not run in the project's folder.
    """
    if not (ROOT / "wsgi.py").exists():
        raise ProcessError(f"there is no wsgi.py in {ROOT}: the demo runs in the project's own folder")
    parent = ROOT / ".demo"
    parent.mkdir(exist_ok=True)
    for left_over in parent.iterdir():
        if not _is_running(left_over.name):
            shutil.rmtree(left_over, ignore_errors=True)
    directory = parent / str(os.getpid())
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            parent.rmdir()


def _is_running(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
