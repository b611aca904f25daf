"""The service under gunicorn, one for each test module that takes it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servease_appt.demo.servers import EmbeddedValkey
from servease_appt.demo.stand_ins import StandIns

from .served import Served, serve, settings


@pytest.fixture(scope="module")
def served(
    new_database: Callable[[str], str],
    migrated_template: str,
    valkey: EmbeddedValkey,
    running_stand_ins: StandIns,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """Two workers that nothing is broken for; tests that stop servers start a service of their own."""
    running_stand_ins.reset()
    environment = settings(new_database(migrated_template), valkey.url(1), running_stand_ins)
    with serve(environment, running_stand_ins, Path(tmp_path_factory.mktemp("served"))) as served:
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)
        yield served
