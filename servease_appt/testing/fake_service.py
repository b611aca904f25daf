"""A fake for one of the platform's services: its lookups over HTTP, with a way to make it fail.

A script of its own that needs only the standard library:

    fake_service.py KIND PORT DELAY_SECONDS [HOST]

KIND is `customer`, `employee` or `vehicle`, PORT 0 picks a free one, HOST is 127.0.0.1 unless it is given. Each
answer takes DELAY_SECONDS; any number of calls may be under way on one thread: a waiting call costs a timer. A
call without a bearer token gets 401.

`POST /__control` with a JSON object `{"do": …}` changes its behaviour. `fake_services.py` is the client for
that and documents the actions.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

_REASONS = {
    200: "OK",
    302: "Found",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
}
Entry = dict[str, Any]


def customer_answers(entry: Entry) -> dict[str, Entry]:
    """Return the customer service's answers about one customer, by path.

    A customer has the id of the user account, which all other services use, and an id of the customer service's
    own. The answer to a request by one of them has the other as its `id`.
    """
    account, own = entry["id"], entry.get("own_id") or entry["id"]
    first, _, last = entry["full_name"].partition(" ")
    return {
        f"/api/v1/customers/logical/{account}/": {
            "id": own,
            "user_id": account,
            "full_name": entry["full_name"],
            "user_email": entry["email"],
            "user_first_name": first,
            "user_last_name": last,
            "is_verified": True,
        },
        f"/api/v1/customers/{own}/": {
            "id": account,
            "full_name": entry["full_name"],
            "email": entry["email"],
            "first_name": first,
            "last_name": last,
            "is_verified": True,
        },
    }


def employee_answers(entry: Entry) -> dict[str, Entry]:
    """Return the employee service's answers about one employee, by path."""
    first, _, last = entry["full_name"].partition(" ")
    answer = {"id": entry["id"], "full_name": entry["full_name"], "first_name": first, "last_name": last}
    return {f"/api/v1/employees/{entry['id']}/basic/": answer}


def vehicle_answers(entry: Entry) -> dict[str, Entry]:
    """Return the vehicle service's answers about one vehicle, by path."""
    names = ("year", "make", "model", "customer_id")
    answer = {"vehicle_id": entry["id"], **{name: entry[name] for name in names}, "is_active": True}
    return {f"/api/v1/vehicles/{entry['id']}/": answer}


_ANSWERS = {"customer": customer_answers, "employee": employee_answers, "vehicle": vehicle_answers}


class Service:
    """The service's entries, its present behaviour, and the calls that it has received."""

    def __init__(self, kind: str, delay_s: float) -> None:
        self._answers_of = _ANSWERS[kind]
        self._delay_s = self._usual_delay_s = delay_s
        self._answers: dict[str, Entry] = {}
        self._rules: list[dict[str, Any]] = []
        self._held: list[Callable[[], None]] = []
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.calls: Counter[str] = Counter()
        self.tokens: set[str] = set()

    def put(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._answers.update(self._answers_of(entry))

    def handle(self, path: str, token: str | None, reply: "Reply") -> None:
        """Answer one call, at once or after a delay."""
        self.calls[path] += 1
        if token:
            self.tokens.add(token)
        rule = self._rule_for(path)
        if rule.get("drop"):
            reply.drop()
            return
        status, body = 200, b""
        if token is None:
            status = 401
        elif "status" in rule or "body" in rule:
            status, body = rule.get("status", 200), rule.get("body", "{}").encode()
        elif path in self._answers:
            body = json.dumps(self._answers[path]).encode()
        else:
            status = 404
        headers = rule.get("headers", {})

        def answer() -> None:
            reply.send(status, body or b'{"detail": "fake"}', headers)

        if rule.get("hold"):
            self._held.append(answer)
        else:
            asyncio.get_running_loop().call_later(rule.get("delay_s", self._delay_s), answer)
        for reached, future in self._watchers:
            if reached() and not future.done():
                future.set_result(None)

    def _rule_for(self, path: str) -> dict[str, Any]:
        for rule in self._rules:
            if rule.get("match", "") in path and rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {}

    async def control(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one action and return the counts so far."""
        match order.pop("do", "look"):
            case "put":
                self.put(order["entries"])
            case "remove":
                self._answers = {
                    path: body for path, body in self._answers.items() if order["id"] not in path
                }
            case "delay":
                self._delay_s = order["delay_s"]
            case "rule":
                self._rules.insert(0, order)
            case "release":
                self._rules = [rule for rule in self._rules if not rule.get("hold")]
                held, self._held = self._held, []
                for answer in held:
                    answer()
            case "forget":
                self.calls.clear()
                self.tokens.clear()
            case "reset":
                await self.control({"do": "release"})
                self._rules, self._answers, self._delay_s = [], {}, self._usual_delay_s
                await self.control({"do": "forget"})
            case "wait":
                return {"reached": await self._watch(**order), **self._counts()}
        return self._counts()

    async def _watch(self, held: int, calls: int, timeout_s: float) -> bool:
        """Wait until that many calls are held and that many were received. Returns whether it was in time."""

        def reached() -> bool:
            return len(self._held) >= held and self.calls.total() >= calls

        future = asyncio.get_running_loop().create_future()
        watcher = (reached, future)
        self._watchers.append(watcher)
        try:
            if not reached():
                await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._watchers.remove(watcher)
        return True

    def _counts(self) -> dict[str, Any]:
        return {"calls": self.calls, "tokens": sorted(self.tokens), "held": len(self._held)}


class Reply:
    """The response to one call. Both methods may be called after the caller has disconnected."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Write the answer and continue with the connection's next call."""
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._connection.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self._connection.abort()


class Connection(asyncio.Protocol):
    """One connection. Reads requests in sequence, in the subset of HTTP that the service's clients write."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = bytearray()
        self._busy = False
        self._transport: asyncio.Transport | None = None
        self._orders: set[asyncio.Future[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a TCP server is given nothing else

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._busy:
            self._next()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
        self._busy = False
        self._next()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        request_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        body, self._received = bytes(rest[:length]), rest[length:]
        self._busy = True
        path = request_line.split(" ")[1]
        reply = Reply(self)
        if path == "/__control":
            task = asyncio.ensure_future(self._control(body, reply))
            self._orders.add(task)  # the loop itself would not keep it alive
            task.add_done_callback(self._orders.discard)
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        self._service.handle(path, token if scheme == "Bearer" and token else None, reply)

    async def _control(self, body: bytes, reply: Reply) -> None:
        try:
            answer, status = await self._service.control(json.loads(body)), 200
        except (KeyError, TypeError, ValueError) as error:
            answer, status = {"error": repr(error)}, 400
        reply.send(status, json.dumps(answer).encode(), {})


async def main(arguments: list[str]) -> None:
    """Serve until the process ends; the arguments are those of the module's docstring."""
    kind, port, delay_s, host = [*arguments, "127.0.0.1"][:4]
    service = Service(kind, float(delay_s))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), host, int(port), backlog=1024)
    print(f"Listening on port {server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
