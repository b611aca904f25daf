"""A Redis server with the users of `deploy/users.acl`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from servease_appt.testing.servers import EmbeddedValkey
from tests.support.service_fixtures import no_other_workers

__all__ = ["no_other_workers"]

USERS = Path(__file__).parents[2] / "deploy" / "users.acl"
PASSWORD = "letters0and1digits"


class GuardedValkey(EmbeddedValkey):
    """The server as the compose files start it: nobody gets in without a user and a password."""

    def __init__(self, directory: Path) -> None:
        lines = [f"{line} >{PASSWORD}\n" for line in USERS.read_text().splitlines()]
        users = directory / "users.acl"
        users.write_text("".join(lines))
        super().__init__(options=["--aclfile", str(users)])

    def url_of(self, user: str, database: int = 1) -> str:
        """Return the URL with which a user of the file connects."""
        return self.url(database).replace("redis://", f"redis://{user}:{PASSWORD}@")

    def admin(self) -> "Redis":
        """Return a client that may do everything."""
        return Redis.from_url(self.url_of("default"))


@pytest.fixture
def guarded_valkey(tmp_path: Path) -> Iterator[GuardedValkey]:
    """Such a server, of the test's own."""
    with GuardedValkey(tmp_path) as server:
        yield server
