"""Decorators that run a function once for all workers, and share no private answer."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from flask import Flask, Response, abort, request

from servease_appt.cache.flask_caching import TwoTierFlaskCache
from tests.cache.flask_caching_workers import PREFIX, NewWorker, Worker
from tests.cache.testbed import Gate, eventually, monkeypatch


@pytest.fixture
def workers(new_worker: NewWorker) -> list[Worker]:
    """Two workers, which wait for each other's calls and keep last known values."""
    config: dict[str, Any] = {"CACHE_RUN_WAIT": 60, "CACHE_STALE_TIMEOUT": 600}
    return [new_worker(cache_class=TwoTierFlaskCache, **config) for _ in range(2)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads of the test's own."""
    with ThreadPoolExecutor(8) as executor:
        yield executor


class Function:
    """What both workers memoize: it counts its runs, stops at a gate, and fails when it is told to."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.gate: Gate | None = None
        self.fails = False

    def memoized_by(self, worker: Worker, **options: Any) -> Any:
        """The function as a worker calls it, in a context of its own."""
        app, cache, _ = worker

        @cache.memoize(100, **options)
        def double(n: int) -> int:
            self.runs.append(n)
            if self.gate is not None:
                self.gate.pass_through()
            if self.fails:
                raise LookupError("no number")
            return 2 * n

        def call(n: int) -> Any:
            with app.app_context():
                return double(n)

        def forget() -> None:
            with app.app_context():
                cache.delete_memoized(double)

        call.forget = forget  # type: ignore[attr-defined]
        return call


def arrivals(workers: list[Worker]) -> list[str]:
    """The keys of the calls that have missed, as they come to the point of waiting for another's run."""
    keys: list[str] = []
    for _, _, backend in workers:
        wait = backend.wait_for_run

        def arrive(key: str, wait: Callable[[str], Any] = wait) -> Any:
            keys.append(key)
            return wait(key)

        monkeypatch(backend, "wait_for_run", arrive)
    return keys


def test_a_function_runs_once_for_all_who_ask_at_once(
    workers: list[Worker], threads: ThreadPoolExecutor
) -> None:
    """In whichever thread of whichever worker they are."""
    function = Function()
    calls = [function.memoized_by(worker) for worker in workers]
    calls[0](1), calls[1](1)  # the version is there
    function.gate, arrived = Gate(), arrivals(workers)
    first = threads.submit(calls[0], 7)
    function.gate.wait_for_arrival()

    others = [threads.submit(calls[n % 2], 7) for n in range(6)]
    eventually(lambda: len(arrived) == 7, "the miss of each call")
    function.gate.open()

    assert [call.result(30) for call in (first, *others)] == [14] * 7
    assert function.runs.count(7) == 1


def test_a_failed_run_is_followed_by_the_next(workers: list[Worker], threads: ThreadPoolExecutor) -> None:
    """Nobody waits for what will not come, and nobody is given another's error."""
    function = Function()
    calls = [function.memoized_by(worker) for worker in workers]
    calls[0](1)
    function.gate, function.fails, arrived = Gate(), True, arrivals(workers)
    first = threads.submit(calls[0], 7)
    function.gate.wait_for_arrival()
    second = threads.submit(calls[1], 7)
    eventually(lambda: len(arrived) == 2, "the miss of each call")

    function.gate.open()
    with pytest.raises(LookupError):
        first.result(30)
    with pytest.raises(LookupError):
        second.result(30)
    assert function.runs.count(7) == 2
    function.fails = False
    assert calls[1](7) == 14


def test_what_is_not_stored_keeps_nobody_waiting(workers: list[Worker]) -> None:
    """A filter that refuses it, or a value that can't be stored."""
    function = Function()
    call = function.memoized_by(workers[0], response_filter=lambda _value: False)
    app, cache, _ = workers[1]

    @cache.memoize()
    def unfit() -> Any:
        return 1j

    assert [call(7), call(7)] == [14, 14]
    with app.app_context():
        assert [unfit(), unfit()] == [1j, 1j]
    assert function.runs == [7, 7]


def test_the_last_known_value_stands_in_for_an_error(
    workers: list[Worker], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged, the value is not stored anew, and no deletion is undone by it."""
    function = Function()
    calls = [function.memoized_by(worker) for worker in workers]
    assert calls[0](7) == 14
    function.fails = True

    def expire() -> None:
        with redis.Redis.from_url(redis_url) as client:
            for name in client.keys(f"{PREFIX}:entry_*"):
                if b"_memver" not in name:
                    client.delete(name)
        for _, _, backend in workers:
            backend.tiers.l1.flush()

    with caplog.at_level(logging.WARNING, "servease_appt"):
        expire()
        assert [calls[1](7), calls[1](7)] == [14, 14]
    assert sum("last known value" in text for text in caplog.messages) == 2
    assert function.runs == [7, 7, 7]

    calls[0].forget()
    with pytest.raises(LookupError):
        calls[1](7)


def view_of(worker: Worker, **options: Any) -> Any:
    """A client of a worker with one cached view."""
    app, cache, _ = worker
    runs = iter(range(100))

    @app.route("/page", methods=["GET", "POST"])
    @cache.cached(100, **options)
    def page() -> Response:
        if "missing" in request.args:
            abort(404)
        response = Response(
            f"{next(runs)} {request.method} {request.headers.get('Authorization', '')}".strip()
        )
        if "cookie" in request.args:
            response.set_cookie("session", "mine")
        return response

    return app.test_client()


def test_private_answers_are_not_shared(workers: list[Worker]) -> None:
    """Neither over the method, nor with a token, nor with a cookie."""
    client = view_of(workers[0], query_string=True)
    token = {"Authorization": "Bearer alice"}

    assert [client.get("/page").text, client.get("/page").text] == ["0 GET", "0 GET"]
    assert client.post("/page").text == "1 POST"
    assert client.get("/page", headers=token).text == "2 GET Bearer alice"
    assert client.get("/page").text == "0 GET"
    assert [client.get("/page?cookie").text, client.get("/page?cookie").text] == ["3 GET", "4 GET"]
    assert [client.get("/page?missing").status_code, client.get("/page?missing").status_code] == [404, 404]


def test_they_are_where_one_says_so(workers: list[Worker]) -> None:
    """As Flask-Caching's own decorator does."""
    client = view_of(workers[0], query_string=True, shared=True)

    assert client.get("/page?cookie", headers={"Authorization": "Bearer alice"}).text == "0 GET Bearer alice"
    assert client.get("/page?cookie").text == "0 GET Bearer alice"


def test_an_own_condition_and_filter_are_kept(workers: list[Worker]) -> None:
    """Beside those of privacy."""
    first = view_of(workers[0], unless=lambda: True)
    second = view_of(workers[1], response_filter=lambda _response: False, key_prefix="second")

    assert [first.get("/page").text for _ in range(2)] == ["0 GET", "1 GET"]
    assert [second.get("/page").text for _ in range(2)] == ["0 GET", "1 GET"]


def test_another_backend_works_as_before() -> None:
    """Without two tiers it is Flask-Caching's own class."""
    app = Flask("host")
    app.config["CACHE_TYPE"] = "SimpleCache"
    cache = TwoTierFlaskCache(app)
    runs = []

    @cache.memoize()
    def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    with app.app_context():
        assert [double(2), double(2)] == [4, 4]
    assert runs == [2]


class TestRefreshAhead:
    """A value that is in use is replaced before it expires."""

    @pytest.fixture
    def ahead(self, new_worker: NewWorker) -> list[Worker]:
        """Two workers that refresh values in their last 25 s, of 100."""
        config: dict[str, Any] = {"CACHE_REFRESH_AHEAD": 25, "CACHE_L1_TIMEOUT": 25}
        return [new_worker(cache_class=TwoTierFlaskCache, **config) for _ in range(2)]

    @staticmethod
    def age(client: redis.Redis, workers: list[Worker], left_s: int) -> None:
        """Let what is cached have `left_s` seconds to live, in L2 and as each worker sees it."""
        for name in client.scan_iter(match=f"{PREFIX}:entry_*"):
            if not name.endswith(b"_memver"):
                client.expire(name, left_s)
        for _, _, backend in workers:
            backend.tiers.l1.flush()

    def test_one_call_computes_it_while_the_others_are_given_the_value(
        self, ahead: list[Worker], threads: ThreadPoolExecutor, client: redis.Redis
    ) -> None:
        """Neither too early nor twice; afterwards all have the new one."""
        function = Function()
        calls = [function.memoized_by(worker) for worker in ahead]
        assert calls[0](7) == calls[1](7) == 14
        self.age(client, ahead, 40)
        assert calls[0](7) == 14
        assert function.runs == [7], "it is not due"

        self.age(client, ahead, 20)
        function.gate = Gate()
        refreshing = threads.submit(calls[0], 7)
        function.gate.wait_for_arrival()
        assert [calls[n % 2](7) for n in range(4)] == [14] * 4
        function.gate.open()

        assert refreshing.result(30) == 14
        assert function.runs == [7, 7]
        (stored,) = [n for n in client.scan_iter(match=f"{PREFIX}:entry_*") if not n.endswith(b"_memver")]
        assert client.ttl(stored) > 90

    def test_a_refresh_that_fails_gives_the_value_that_is_there(
        self, ahead: list[Worker], client: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged, and the next call may try again."""
        function = Function()
        call = function.memoized_by(ahead[0])
        assert call(7) == 14
        self.age(client, ahead, 20)
        function.fails = True

        assert call(7) == call(7) == 14
        assert function.runs == [7, 7, 7]
        assert "its last known value is returned" in caplog.text

    def test_a_deletion_during_a_refresh_wins(
        self, ahead: list[Worker], threads: ThreadPoolExecutor, client: redis.Redis
    ) -> None:
        """What was computed before it is not stored."""
        function = Function()
        app, cache, _ = ahead[0]

        @app.get("/page")
        @cache.cached(100)
        def page() -> str:
            function.runs.append(1)
            if function.gate is not None:
                function.gate.pass_through()
            return str(len(function.runs))

        client_of_app = app.test_client()
        assert client_of_app.get("/page").text == "1"
        self.age(client, ahead, 20)
        function.gate = Gate()
        refreshing = threads.submit(lambda: app.test_client().get("/page").text)
        function.gate.wait_for_arrival()
        with app.app_context():
            cache.delete("view//page")
        function.gate.open()

        assert refreshing.result(30) == "2"
        assert client_of_app.get("/page").text == "3"

    def test_more_than_l1_holds_values_is_refused(self, new_worker: NewWorker) -> None:
        """It would not be noticed in time."""
        with pytest.raises(ValueError, match=r"CACHE_REFRESH_AHEAD.*CACHE_L1_TIMEOUT or less"):
            new_worker(cache_class=TwoTierFlaskCache, CACHE_REFRESH_AHEAD=25)

    def test_it_is_off_unless_it_is_set(self, workers: list[Worker], client: redis.Redis) -> None:
        """A value then lives until it expires."""
        function = Function()
        call = function.memoized_by(workers[0])
        assert call(7) == 14
        self.age(client, workers, 2)
        assert call(7) == 14
        assert function.runs == [7]
