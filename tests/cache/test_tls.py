"""TLS with real traffic: to the nodes of a cluster, to sentinels and their primary; and an IPv6 address."""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from servease_appt.cache import Source as From
from servease_appt.cache import connect
from servease_appt.cache.errors import CacheUnavailable
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.cache.cluster_setup import SLOTS, ClusterSetup
from tests.cache.sentinel_setup import sentinel_of
from tests.cache.testbed import CODECS, PREFIX, Cache, Source, eventually, listening, policy
from tests.support.tls_proxy import CA, OTHER_CA, TlsProxy

KEYS = [f"{kind}_{n}" for kind in ("customer", "vehicle") for n in range(20)]
TIMEOUT_S = 5.0


@pytest.fixture
def cluster_by_tls(cluster: ClusterSetup) -> Iterator[list[TlsProxy]]:
    """A proxy in front of each node, which announces the proxy's port."""
    nodes = cluster.nodes
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(TlsProxy(node.port)) for node in nodes]
        stack.callback(_announce, cluster, [0] * len(nodes), [node.port for node in nodes])
        ports = [proxy.port for proxy in proxies]
        _announce(cluster, ports, ports)
        yield proxies


def _announce(cluster: ClusterSetup, announced: list[int], seen: list[int]) -> None:
    """Set the ports that nodes announce, and wait until all of them know it."""
    for node, port in zip(cluster.nodes, announced, strict=True):
        cluster.do(node, "CONFIG", "SET", "cluster-announce-port", port)
    for node in cluster.nodes:
        eventually(partial(_sees, cluster, node, seen), "the news of the ports", timeout_s=20)


def _sees(cluster: ClusterSetup, node: EmbeddedValkey, ports: list[int]) -> bool:
    return [first[1] for _, _, first, *_ in sorted(cluster.do(node, "CLUSTER", "SLOTS"))] == ports


def serves_a_page_and_an_invalidation(url: str, source: Source) -> None:
    """Two workers share a page, and one hears what the other invalidates."""
    with contextlib.ExitStack() as stack:
        workers = [
            Cache(connect(url, timeout_s=TIMEOUT_S), CODECS, prefix=PREFIX, policy=policy(), owns_client=True)
            for _ in range(2)
        ]
        for worker in workers:
            stack.callback(worker.close)
            listening(worker)
        a, b = workers
        eventually(lambda: not a.l2.unheard_nodes and not b.l2.unheard_nodes, "the connections to all nodes")
        for key in KEYS:
            source.put(key)
        loaded = a.get_many(KEYS, source.load)
        eventually(partial(_reads_from_l2, b, source, loaded.values), "the page from L2")
        new = source.put(KEYS[0])
        a.invalidate([KEYS[0]])
        eventually(lambda: b.get(KEYS[0], source.load) == new, "the new value", timeout_s=2.0)


def _reads_from_l2(worker: Cache, source: Source, values: Mapping[str, Any]) -> bool:
    """Whether a whole page comes from L2. A busy machine may have loaded a part of it twice."""
    worker.l1.flush()
    page = worker.get_many(KEYS, source.load)
    assert page.values == values
    return set(page.sources.values()) == {From.L2}


def cause_of_refusal(url: str) -> str:
    """Why an invalidation was not accepted."""
    client = connect(url, timeout_s=TIMEOUT_S)
    cache = Cache(client, CODECS, prefix=PREFIX, listen=False, owns_client=True)
    with contextlib.closing(cache), pytest.raises(CacheUnavailable) as refused:
        cache.invalidate(["customer_1"])
    return str(refused.value)


def test_a_cluster_by_tls(cluster_by_tls: list[TlsProxy], source: Source) -> None:
    """Every node is reached by TLS, listened to by TLS, and has to prove who it is."""
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in cluster_by_tls[:2])
    serves_a_page_and_an_invalidation(f"rediss+cluster://{hosts}?ssl_ca_certs={quote(str(CA))}", source)
    assert all(proxy.encrypted >= 4 for proxy in cluster_by_tls)

    unknown = cause_of_refusal(f"rediss+cluster://{hosts}?ssl_ca_certs={quote(str(OTHER_CA))}")
    assert "CERTIFICATE_VERIFY_FAILED" in unknown
    named = f"rediss+cluster://localhost:{cluster_by_tls[0].port}?ssl_ca_certs={quote(str(CA))}"
    assert "Hostname mismatch" in cause_of_refusal(named)


def test_a_sentinel_and_its_primary_by_tls(
    own_valkey: EmbeddedValkey, tmp_path: Path, source: Source
) -> None:
    """Both are reached by TLS, and have to prove who they are."""
    with (
        TlsProxy(own_valkey.port) as primary,
        sentinel_of("127.0.0.1", primary.port, tmp_path) as port,
        TlsProxy(port) as sentinel,
    ):
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main/1?ssl_ca_certs="
        serves_a_page_and_an_invalidation(url + quote(str(CA)), source)
        assert sentinel.encrypted > 0
        assert primary.encrypted >= 4
        assert "CERTIFICATE_VERIFY_FAILED" in cause_of_refusal(url + quote(str(OTHER_CA)))


@pytest.fixture
def ipv6() -> str:
    """An address of this machine."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    return "::1"


def test_a_server_and_a_sentinel_at_an_ipv6_address(ipv6: str, tmp_path: Path, source: Source) -> None:
    """`[::1]` leads there; a certificate has to name it."""
    with (
        EmbeddedValkey(options=["--bind", ipv6]) as server,
        TlsProxy(server.port, ipv6) as primary,
        sentinel_of(ipv6, primary.port, tmp_path) as port,
        TlsProxy(port, ipv6) as sentinel,
    ):
        serves_a_page_and_an_invalidation(f"redis://[::1]:{server.port}/1", source)
        ca = f"ssl_ca_certs={quote(str(CA))}"
        serves_a_page_and_an_invalidation(f"rediss+sentinel://[::1]:{sentinel.port}/main/1?{ca}", source)


def test_a_cluster_at_an_ipv6_address(ipv6: str, source: Source) -> None:
    """It has one node, which has met no other and does not know its own address."""
    options = ["--bind", "127.0.0.1", ipv6, "--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with EmbeddedValkey(options=options) as server:
        ClusterSetup.do(server, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        eventually(lambda: b"cluster_state:ok" in ClusterSetup.do(server, "CLUSTER", "INFO"), "the cluster")
        serves_a_page_and_an_invalidation(f"redis+cluster://[::1]:{server.port}", source)
