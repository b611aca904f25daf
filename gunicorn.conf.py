"""How gunicorn serves the API: `gunicorn -c gunicorn.conf.py wsgi:app`."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from gunicorn import util

from servease_appt.observability.logs import GunicornLogger, logging_config
from servease_appt.serving.gunicorn_errors import write_error
from servease_appt.serving.start import DEFAULT_WORKERS, MOST_WORKERS, WORKERS, whole_number
from servease_appt.settings import Settings, SettingsError

bind = os.environ.get("BIND", "0.0.0.0:8005")
workers = whole_number(WORKERS, DEFAULT_WORKERS, MOST_WORKERS)
# Threads that only ever see whole requests: slow clients hold none of them.
worker_class = "servease_appt.serving.worker.BufferingWorker"
threads = whole_number("WEB_THREADS", 8, 256)
timeout = 30
graceful_timeout = 20
keepalive = 5
# More than the longest token that is looked at: one that is longer is refused as a token, not as a header.
limit_request_field_size = 16384
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - heartbeats must not wait for a disk
# Two services of one user would take each other's control socket.
control_socket_disable = True
# gunicorn has no setting for the answer to a malformed request.
util.write_error = write_error
logger_class = GunicornLogger
logconfig_dict = logging_config()

# Set before any worker imports the application: the metrics library looks once, when it is imported.
_OWN_PREFIX = "servease-metrics-"
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=_OWN_PREFIX)
# Here and not in a hook: with --preload the application is imported before the first hook is called.
Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(parents=True, exist_ok=True)


def on_starting(server: Any) -> None:
    """Stop here where no worker could start, or gunicorn would make new ones for ever; forget an earlier run."""
    if server.app.app_uri == "wsgi:app":
        _check_environment()
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
        file.unlink()


def _check_environment() -> None:
    try:
        Settings.from_environment()
    except SettingsError as error:
        on_exit(None)
        sys.exit(str(error))


def post_worker_init(worker: Any) -> None:
    """Listen for invalidations from the start, not from the first request; be unready once told to stop."""
    application = worker.wsgi
    container = getattr(application, "extensions", {}).get("servease")
    if container is not None:
        container.lookups.cache.start()
        # gunicorn calls no hook at SIGTERM: the worker itself knows.
        container.lifecycle.draining = lambda: not worker.alive
        worker.on_refused = container.metrics.request_refused


def worker_exit(_server: Any, worker: Any) -> None:
    """Leave in order: threads joined, connections closed."""
    container = getattr(getattr(worker, "wsgi", None), "extensions", {}).get("servease")
    if container is not None:
        container.close()


def child_exit(_server: Any, worker: Any) -> None:
    """A worker that is gone has no states any more; what it counted stays."""
    from servease_appt.observability import metric_files

    metric_files.merge_dead_worker(worker.pid)


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    if directory.name.startswith(_OWN_PREFIX):
        shutil.rmtree(directory, ignore_errors=True)
