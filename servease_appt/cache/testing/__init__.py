"""The cache on a server in memory, for the tests of programs that use it, and contract tests for an L2.

>>> from servease_appt.cache.testing import HandClock, MemoryServer
>>> clock = HandClock()
>>> server = MemoryServer(clock)
>>> with server.cache(json_codec("customer")) as a, server.cache(json_codec("customer")) as b:
...     old = b.get("customer_17", lambda key, timeout_s: {"name": "Ada"})
...     with server.bus.losing():
...         a.invalidate(["customer_17"])
...     b.get("customer_17", lambda key, timeout_s: {"name": "Grace"})["name"]
...     clock.move(1)
...     server.settle()
...     b.get("customer_17", lambda key, timeout_s: {"name": "Grace"})["name"]
1
'Ada'
'Grace'
"""

from servease_appt.cache.testing.clock import HandClock
from servease_appt.cache.testing.contract import L2Contract
from servease_appt.cache.testing.memory_channel import Bus
from servease_appt.cache.testing.memory_l2 import MemoryL2
from servease_appt.cache.testing.memory_server import MemoryServer

__all__ = ["Bus", "HandClock", "L2Contract", "MemoryL2", "MemoryServer"]
