"""The minimal baseline: a hand-written page of appointments, the least code that gives the same JSON.

It checks no roles, filters or sizes, has no request id, metric, deadline or fallback, and does not check the
answers of services. It is for comparison only.

`BASELINE_NAMES` selects the source of names: `memory` (a TTLCache under one lock), `mget` (one MGET for a page, no
first tier) or `services` (memory, and missing names from the services in parallel, on 60 threads).
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jwt
import orjson
import requests
from cachetools import TTLCache
from flask import Flask, Response, request
from psycopg2.pool import ThreadedConnectionPool
from redis import Redis
from requests.adapters import HTTPAdapter

PAGE_SIZE = 20
_SELECT = (
    "SELECT id::text, customer_id::text, vehicle_id::text, assigned_employee_id::text, appointment_type,"
    " scheduled_date::text, scheduled_time::text, status FROM appointments"
    " ORDER BY scheduled_date DESC, scheduled_time DESC, id LIMIT 20 OFFSET %s"
)
_COLUMNS = (
    "id",
    "customer_id",
    "vehicle_id",
    "assigned_employee_id",
    "appointment_type",
    "scheduled_date",
    "scheduled_time",
    "status",
)

app = Flask("minimal_baseline", static_folder=None)
_secret = os.environ["SECRET_KEY"]
# It closes what is given back beyond its least number, so that is as many as a worker has threads.
_database = ThreadedConnectionPool(8, 8, os.environ["DATABASE_URL"])
_redis = Redis.from_url(os.environ["REDIS_URL"])
_mget = os.environ.get("BASELINE_NAMES") == "mget"
_lock = threading.Lock()
_texts: TTLCache[str, str] = TTLCache(10_000, 300)
_executor = ThreadPoolExecutor(60)
_session = requests.Session()
_session.trust_env = False
_session.mount("http://", HTTPAdapter(pool_maxsize=64))


@app.get("/api/v1/health/")
def health() -> dict[str, str]:
    """Answer that the application runs."""
    return {"status": "healthy"}


@app.get("/constant")
def constant() -> Response:
    """Answer a constant as long as a page: the cost of Flask and gunicorn alone."""
    return Response(b"x" * 9000, mimetype="application/json")


@app.get("/api/v1/appointments/")
def appointments() -> Response:
    """Answer one page."""
    token = request.headers["Authorization"][7:]
    jwt.decode(token, _secret, algorithms=["HS256"])
    page = int(request.args.get("page", "1"))
    connection = _database.getconn()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM appointments")
            count = cursor.fetchone()[0]
            cursor.execute(_SELECT, ((page - 1) * PAGE_SIZE,))
            rows = cursor.fetchall()
    finally:
        _database.putconn(connection)
    keys = {
        f"{kind}_{row[i]}" for row in rows for i, kind in ((1, "customer"), (2, "vehicle"), (3, "employee"))
    }
    texts = _by_mget(keys, token) if _mget else _by_memory(keys, token)
    results = [
        {
            **dict(zip(_COLUMNS, row, strict=True)),
            "customer_name": texts[f"customer_{row[1]}"],
            "vehicle_details": texts[f"vehicle_{row[2]}"],
            "employee_name": texts[f"employee_{row[3]}"],
        }
        for row in rows
    ]
    here = f"{request.base_url}?page="
    body = {
        "count": count,
        "next": f"{here}{page + 1}" if page * PAGE_SIZE < count else None,
        "previous": f"{here}{page - 1}" if page > 1 else None,
        "results": results,
    }
    return Response(orjson.dumps(body), mimetype="application/json")


def _by_memory(keys: set[str], token: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    missing: list[str] = []
    with _lock:
        for key in keys:
            try:
                texts[key] = _texts[key]
            except KeyError:
                missing.append(key)
    if missing:
        found = dict(_executor.map(lambda key: (key, text_of(key, ask(_session, key, token))), missing))
        with _lock:
            _texts.update(found)
        texts |= found
    return texts


def _by_mget(keys: set[str], token: str) -> dict[str, str]:
    order = list(keys)
    payloads = cast("list[bytes | None]", _redis.mget([f"baseline:{key}" for key in order]))
    texts = {
        key: text_of(key, orjson.loads(payload))
        for key, payload in zip(order, payloads, strict=True)
        if payload
    }
    for key in keys - texts.keys():
        answer = ask(_session, key, token)
        _redis.set(f"baseline:{key}", orjson.dumps(answer), ex=300)
        texts[key] = text_of(key, answer)
    return texts


def ask(session: requests.Session, key: str, token: str) -> dict[str, Any]:
    """Return the answer of the service that owns a key."""
    kind, _, id_ = key.partition("_")
    base = os.environ[f"{kind.upper()}_SERVICE_URL"]
    path = {
        "customer": f"/api/v1/customers/logical/{id_}/",
        "vehicle": f"/api/v1/vehicles/{id_}/",
        "employee": f"/api/v1/employees/{id_}/basic/",
    }[kind]
    answer: dict[str, Any] = session.get(
        base + path, headers={"Authorization": f"Bearer {token}"}, timeout=5
    ).json()
    return answer


def text_of(key: str, answer: dict[str, Any]) -> str:
    """Return the text that a page shows of an answer."""
    if key.startswith("vehicle"):
        return f"{answer['year']} {answer['make']} {answer['model']}"
    return str(answer["full_name"])
