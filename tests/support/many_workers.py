"""Workers of a large fleet, as far as a dashboard can see: they listen, and answer queries for their status."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import redis

_MODES = ("both", "both", "both", "both", "both", "both", "both", "l2_only")


@contextmanager
def many_workers(url: str, count: int, *, prefix: str = "appointment_service") -> Iterator[None]:
    """Answer as `count` workers on eight hosts until the block ends."""
    stop = threading.Event()
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(url))
        listeners = [stack.enter_context(client.pubsub()) for _ in range(count)]
        for listener in listeners:
            listener.subscribe(f"{prefix}:__ask")
        thread = threading.Thread(target=_answer, args=(client, listeners, stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield


def _answer(client: redis.Redis, listeners: list[redis.client.PubSub], stop: threading.Event) -> None:
    while not stop.is_set():
        message = listeners[0].get_message(ignore_subscribe_messages=True, timeout=0.05)
        question = json.loads(message["data"]) if message else {}
        if question.get("what") == "status":
            for number in range(len(listeners)):
                client.publish(question["reply_to"], json.dumps(_status(number)))


def _status(number: int) -> dict[str, object]:
    mode = _MODES[number % len(_MODES)]
    return {
        "worker": f"garage-{number // 8 + 1}.example:{1000 + number}:{number:08x}",
        "pid": 1000 + number,
        "mode": mode,
        "l1_entries": 1000,
        "l1_entries_by_entity": {"customer": 600, "vehicle": 400} if mode == "both" else {},
        "l1_evictions": number * 100,
        "heard_s_ago": 0.2,
        "channel_confirmed": mode == "both",
        "sequence": None,
        "breakers": {"customer": "closed"},
        "resident_bytes": 150 * 2**20,
    }
