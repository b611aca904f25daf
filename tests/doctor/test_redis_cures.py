"""What the doctor says against each way in which a connection to Redis fails, on real connections."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from redis.exceptions import RedisError

from servease_appt.cache import CacheError, connect
from servease_appt.doctor.redis_cures import cure_of
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.support.tls_proxy import CA, OTHER_CA, TlsProxy


@pytest.fixture
def places(valkey: EmbeddedValkey) -> Iterator[dict[str, object]]:
    """Yield what the addresses below leave open."""
    with TlsProxy(valkey.port) as tls:
        yield {"plain": valkey.port, "tls": tls.port, "closed": free_port(), "ca": CA, "other": OTHER_CA}


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("rediss://127.0.0.1:{tls}/1?ssl_ca_certs={other}", "Give ssl_ca_certs=FILE"),
        ("rediss://localhost:{tls}/1?ssl_ca_certs={ca}", "the server's certificate is for"),
        ("rediss://127.0.0.1:{tls}/1?ssl_ca_certs={ca}.nowhere", "Correct the path"),
        ("unix:///nowhere/redis.sock?db=1", "Correct the path"),
        ("redis://no-such-host.invalid/1", "its name is not known here"),
        ("redis://127.0.0.1:{closed}/1", "Start Redis"),
        ("redis+cluster://127.0.0.1:{plain}", "this server is no cluster"),
        ("redis+cluster://127.0.0.1:{closed}", "Start Redis"),
        ("redis+sentinel://127.0.0.1:{closed}/main/1", "Start the sentinels"),
        ("redis+sentinel://127.0.0.1:{plain}/main/1", "Correct the service"),
    ],
)
def test_each_failure_has_its_own_cure(places: dict[str, object], url: str, cure: str) -> None:
    """Seen to fail: eight of ten were told to start Redis or to check that it runs."""
    with (
        pytest.raises((RedisError, CacheError)) as failed,
        closing(connect(url.format(**places), timeout_s=1.0)) as client,
    ):
        client.ping()
    assert cure in cure_of(failed.value, " ".join(str(failed.value).split()))


def test_a_password_that_the_sentinels_refuse_is_theirs(own_valkey: EmbeddedValkey) -> None:
    """The password of Redis is another one."""
    with connect(own_valkey.url(1)) as client:
        client.config_set("requirepass", "the-right-one")
    url = f"redis+sentinel://127.0.0.1:{own_valkey.port}/main/1?sentinel_password=wrong"
    with pytest.raises(RedisError) as failed, closing(connect(url, timeout_s=1.0)) as client:
        client.ping()
    assert "sentinel_password" in cure_of(failed.value, str(failed.value))
