"""gunicorn's master forks each worker, so it must never have a second thread (docs/decisions.md)."""

from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import Gunicorn


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["as configured", "preloaded"])
def test_the_master_has_one_thread(
    environment: dict[str, str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Neither gunicorn's own control socket nor a preloaded application starts one, and the workers serve."""
    with Gunicorn(environment, tmp_path, workers=1, arguments=arguments) as gunicorn:
        assert psutil.Process(gunicorn.pid).num_threads() == 1
        (worker,) = gunicorn.worker_pids()
        assert psutil.Process(worker).num_threads() > 1
