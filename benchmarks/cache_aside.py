"""Plain cache-aside, as most people write it: one GET for each name, one call for each missing one, in sequence.

SQLAlchemy's ORM, Flask's `jsonify`, PyJWT, redis-py and requests, each used as in its tutorial.
"""

import json
import os
from datetime import date, time
from typing import Any

import jwt
import requests
from flask import Flask, Response, jsonify, request
from redis import Redis
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from servease_appt.db.models import Appointment

PAGE_SIZE = 20
TTL_S = 300

app = Flask("cache_aside", static_folder=None)
engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"), pool_size=10
)
cache = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
http = requests.Session()


@app.get("/api/v1/health/")
def health() -> dict[str, str]:
    """Answer that the application runs."""
    return {"status": "healthy"}


@app.get("/api/v1/appointments/")
def list_appointments() -> Response:
    """Answer one page."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    jwt.decode(token, os.environ["SECRET_KEY"], algorithms=["HS256"])
    page = request.args.get("page", 1, type=int)
    with Session(engine) as session:
        count = session.scalar(select(func.count()).select_from(Appointment)) or 0
        rows = session.scalars(
            select(Appointment)
            .order_by(Appointment.scheduled_date.desc(), Appointment.scheduled_time.desc(), Appointment.id)
            .limit(PAGE_SIZE)
            .offset((page - 1) * PAGE_SIZE)
        ).all()
        results = [_as_json(row, token) for row in rows]
    link = f"{request.base_url}?page="
    return jsonify(
        count=count,
        next=f"{link}{page + 1}" if page * PAGE_SIZE < count else None,
        previous=f"{link}{page - 1}" if page > 1 else None,
        results=results,
    )


def _as_json(row: Appointment, token: str) -> dict[str, Any]:
    customer = get_cached("customer", row.customer_id, f"/api/v1/customers/logical/{row.customer_id}/", token)
    vehicle = get_cached("vehicle", row.vehicle_id, f"/api/v1/vehicles/{row.vehicle_id}/", token)
    employee = get_cached(
        "employee",
        str(row.assigned_employee_id),
        f"/api/v1/employees/{row.assigned_employee_id}/basic/",
        token,
    )
    return {
        "id": row.id,
        "customer_id": row.customer_id,
        "vehicle_id": row.vehicle_id,
        "assigned_employee_id": row.assigned_employee_id,
        "appointment_type": row.appointment_type,
        "scheduled_date": date.isoformat(row.scheduled_date),
        "scheduled_time": time.isoformat(row.scheduled_time),
        "status": row.status,
        "customer_name": customer["full_name"],
        "vehicle_details": f"{vehicle['year']} {vehicle['make']} {vehicle['model']}",
        "employee_name": employee["full_name"],
    }


def get_cached(kind: str, entity_id: str, path: str, token: str) -> dict[str, Any]:
    """Return one record from Redis, else from its service."""
    key = f"aside:{kind}_{entity_id}"
    cached = cache.get(key)
    if cached:
        found: dict[str, Any] = json.loads(str(cached))
        return found
    base = os.environ[f"{kind.upper()}_SERVICE_URL"]
    answer = http.get(base + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
    answer.raise_for_status()
    cache.set(key, answer.text, ex=TTL_S)
    fresh: dict[str, Any] = answer.json()
    return fresh
