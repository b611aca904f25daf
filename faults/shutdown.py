"""SIGTERM to gunicorn's master under load: which requests are lost, and which of them had been started?

Each request needs a customer that no request has needed since its invalidation, and the customer service is
slow: a call for that customer proves that the request was started.
"""

from __future__ import annotations

import json
import signal
import threading
import time

from faults.experiment import Result
from faults.http_client import Answer
from faults.testbed import UPSTREAM_DELAY_S, Testbed

NAME = "stop-by-sigterm"
_CLIENTS = 36
_EVERY_S = 0.02
_SIGNAL_AFTER = 18
_ANSWER_S = 0.4
_END_LIMIT_S = 25.0


def run(testbed: Testbed) -> Result:
    """Send the signal while half of the clients wait for their answers and the other half have not sent theirs."""
    result = Result(
        NAME,
        "processes",
        "no request that was started is lost; the others are refused or reset, safe to retry",
    )
    _forget_customers(testbed)
    customers = testbed.fake_services.customers
    customers.delay(_ANSWER_S)
    customers.forget_calls()
    answers: dict[int, Answer] = {}

    def ask(row: int) -> None:
        answers[row] = testbed.slot().ask("GET", f"/appointments/{testbed.dataset.appointments[row]}/")

    clients = [threading.Thread(target=ask, args=(row,)) for row in range(_CLIENTS)]
    for number, client in enumerate(clients):
        if number == _SIGNAL_AFTER:
            testbed.gunicorn.send(signal.SIGTERM)
            signalled_s = time.monotonic()
        client.start()
        time.sleep(_EVERY_S)
    for client in clients:
        client.join()
    code = testbed.gunicorn.wait(_END_LIMIT_S)
    ended_after_s = time.monotonic() - signalled_s
    _judge(testbed, result, answers)
    result.remarks.append(f"gunicorn ended with {code} after {ended_after_s:.1f} s")
    if code != 0:
        result.broken.append(f"gunicorn ended with {code}")
    customers.delay(UPSTREAM_DELAY_S)
    testbed.stop_serving()
    testbed.serve()
    return result


def _forget_customers(testbed: Testbed) -> None:
    ids = [id_ for key, id_ in testbed.dataset.ids.items() if key[0] == "c"]
    body = json.dumps({"entity": "customer", "ids": ids}).encode()
    assert testbed.slot().ask("POST", "/cache/invalidate/", body).status == 200


def _judge(testbed: Testbed, result: Result, answers: dict[int, Answer]) -> None:
    called = testbed.fake_services.customers.calls()
    started = {row for row in answers if any(testbed.dataset.ids[f"c{row:03}"] in path for path in called)}
    lost = {row for row, answer in answers.items() if answer.status != 200}
    result.reads = len(answers)
    result.unexpected_failures = len(lost & started)
    result.statuses = {"probe": {"no answer": len(lost)}}
    result.remarks.append(
        f"of {len(answers)} requests {len(answers) - len(lost)} were answered, {len(lost - started)} were"
        f" never started, {len(lost & started)} were started and lost"
    )
    if lost & started:
        result.broken.append(f"{len(lost & started)} started requests lost")
