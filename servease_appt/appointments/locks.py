"""The locks that make a check and the write after it one step.

A command that changes an appointment first locks its row. Then it takes, in one statement and for the rest of
its transaction, an advisory lock for each thing that its checks look at beyond that row: the days that the
booking touches (capacity), the employee (overlap), the customer (the 30 minutes). Every command that could
change the outcome of a check takes one of the same locks. All are taken in the order of their numbers, whatever
they stand for, so that two commands can't wait for each other. The transaction is READ COMMITTED: the statements
after the locks see all that earlier holders have committed.
"""

from collections.abc import Iterable
from datetime import date
from hashlib import blake2b
from typing import Final

from sqlalchemy import ARRAY, BigInteger, Connection, bindparam, text

_NAMESPACE: Final = b"servease_appt.bookings"
"""Advisory locks are shared by all clients of the database: a key of our own keeps our numbers apart."""

_TAKE: Final = text("SELECT count(pg_advisory_xact_lock(number)) FROM unnest(:numbers) AS number").bindparams(
    bindparam("numbers", type_=ARRAY(BigInteger))
)


def day(touched: date) -> int:
    """Return the lock of a day's capacity."""
    return _number("day", touched.isoformat())


def employee(employee_id: str) -> int:
    """Return the lock of an employee's time."""
    return _number("employee", employee_id)


def customer(customer_id: str) -> int:
    """Return the lock of a customer's open appointments."""
    return _number("customer", customer_id)


def take(connection: Connection, numbers: Iterable[int]) -> None:
    """Wait for all of these, and hold them to the end of the transaction. To be called once in a transaction."""
    ordered = sorted(set(numbers))
    if ordered:
        connection.execute(_TAKE, {"numbers": ordered})


def take_bulk(connection: Connection, numbers: Iterable[int]) -> None:
    """As `take`, for hundreds of locks.

    PostgreSQL has room for some thousand, so only one caller at a time may take that many. Its lock comes before
    all others, and no holder of another lock waits for it.
    """
    connection.execute(_TAKE, {"numbers": [_number("bulk", "")]})
    take(connection, numbers)


def _number(kind: str, name: str) -> int:
    """Return a number that is the same in every process and on every machine."""
    digest = blake2b(f"{kind} {name}".encode(), digest_size=8, key=_NAMESPACE).digest()
    return int.from_bytes(digest, "big", signed=True)
