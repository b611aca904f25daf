"""Somebody on the same Redis who answers every query to the workers with what no worker says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis


@contextmanager
def forged_answers(client: redis.Redis, *, prefix: str = "appointment_service") -> Iterator[None]:
    """Answer until the block ends."""
    queries = client.pubsub()  # type: ignore[no-untyped-call]

    def answer(message: dict[str, Any]) -> None:
        reply_to = json.loads(message["data"]).get("reply_to")
        if reply_to is not None:
            for forged in (b"\xff", b"[]", b'{"worker": 5}', b'{"worker": "\\u001b[2J:1:aa", "pid": 1}'):
                client.publish(reply_to, forged)

    queries.subscribe(**{f"{prefix}:__ask": answer})
    thread = queries.run_in_thread(sleep_time=0.05)
    try:
        yield
    finally:
        thread.stop()
        thread.join()
        queries.close()
