"""A Redis server with the users of `deploy/users.acl`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from servease_appt.testing.servers import EmbeddedValkey
from tests.support.service_fixtures import no_other_workers, patient_doctor

__all__ = ["no_other_workers", "patient_doctor"]

USERS = Path(__file__).parents[2] / "deploy" / "users.acl"
PASSWORD = "letters0and1digits"


class GuardedValkey(EmbeddedValkey):
    """The server as the compose files start it: nobody gets in without a user and a password.

    Args:
        directory: for the file with the users and their passwords.
        options: further arguments of its command line.
    """

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        lines = [f"{line} >{PASSWORD}\n" for line in USERS.read_text().splitlines()]
        users = directory / "users.acl"
        users.write_text("".join(lines))
        super().__init__(options=["--aclfile", str(users), *options])

    def url_of(self, user: str, database: int = 1) -> str:
        """Return the URL with which a user of the file connects."""
        return self.url(database).replace("redis://", f"redis://{user}:{PASSWORD}@")

    def admin(self) -> "Redis":
        """Return a client that may do everything."""
        return self.admin_of(1)

    def admin_of(self, database: int) -> "Redis":
        """Return such a client for another database."""
        return Redis.from_url(self.url_of("default", database))


@pytest.fixture
def guarded_valkey(tmp_path: Path) -> Iterator[GuardedValkey]:
    """Such a server, of the test's own."""
    with GuardedValkey(tmp_path) as server:
        yield server
