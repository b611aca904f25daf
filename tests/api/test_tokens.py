"""Who is let in: every way a token can be wrong is a 401, and nothing is a 500."""

import base64
import json
import math
import time
from typing import Any

import jwt
import pytest
from flask import Flask

from servease_appt.api.tokens import Caller, NotAuthenticatedError, read_caller
from servease_appt.appointments.actors import Role
from tests.support.dataset import SECRET, Asker, Dataset, new_id, token

USER_ID = "0b9c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11"


def _part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signed(payload: object, header: object = None) -> str:
    """A token with a right signature over whatever is given, which PyJWT's encoder would refuse to make."""
    head = _part({"alg": "HS256", "typ": "JWT"} if header is None else header)
    body = f"{head}.{_part(payload)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(body.encode(), algorithm.prepare_key(SECRET))
    return f"{body}.{_part(signature)}"


def _claims(**claims: Any) -> dict[str, Any]:
    return {"user_id": USER_ID, "user_role": "admin", "exp": int(time.time()) + 86400, **claims}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in _claims().items() if key != name}


def _unsigned(algorithm: object) -> str:
    return f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(_claims())}."


def _edited() -> str:
    """A customer's token whose payload was changed afterwards."""
    head, _, signature = token(user_id=USER_ID).split(".")
    return f"{head}.{_part(_claims())}.{signature}"


NESTED = b"[" * 3000 + b"]" * 3000
GOOD = _signed(_claims())

BAD_TOKENS = {
    "not three parts": "a.b",
    "four parts": f"{GOOD}.{_part(b'x')}",
    "empty parts": "..",
    "no json": f"{_part(b'x')}.{_part(b'y')}.{_part(b'z')}",
    "8 KB": "A" * 8192,
    "alg none": _unsigned("none"),
    "alg NoNe": _unsigned("NoNe"),
    "alg missing": f"{_part({'typ': 'JWT'})}.{_part(_claims())}.{GOOD.split('.')[2]}",
    "alg a list": _signed(_claims(), {"alg": ["HS256"]}),
    "alg an object": _signed(_claims(), {"alg": {"HS256": 1}}),
    "alg HS512": jwt.encode(_claims(), SECRET * 2, algorithm="HS512"),
    "alg RS256 under our key": _signed(_claims(), {"alg": "RS256"}),
    "nested header": f"{_part(NESTED)}.{_part(_claims())}.",
    "nested header, signed": _signed(_claims(), NESTED),
    "header with a nested value": _signed(_claims(), b'{"alg":"HS256","x":' + NESTED + b"}"),
    "another key": token("another-secret-of-32-bytes-or-more!!", user_id=USER_ID),
    "signature of another token": GOOD.rsplit(".", 1)[0] + "." + token(user_id=USER_ID).rsplit(".", 1)[1],
    "payload edited": _edited(),
    "payload nested": _signed(NESTED),
    "payload a list": _signed([1]),
    "payload null": _signed(None),
    "exp missing": _signed(_without("exp")),
    "exp past": _signed(_claims(exp=int(time.time()) - 1)),
    "exp now": _signed(_claims(exp=int(time.time()))),
    "exp text": _signed(_claims(exp="9999999999")),
    "exp true": _signed(_claims(exp=True)),
    "exp null": _signed(_claims(exp=None)),
    "exp list": _signed(_claims(exp=[9999999999])),
    "exp Infinity": _signed(_claims(exp=math.inf)),
    "exp NaN": _signed(_claims(exp=math.nan)),
    "exp 1e400": _signed(json.dumps(_claims(exp=0)).replace('"exp": 0', '"exp": 1e400').encode()),
    "nbf ahead": _signed(_claims(nbf=int(time.time()) + 86400)),
    "nbf text": _signed(_claims(nbf="1")),
    "nbf false": _signed(_claims(nbf=False)),
    "nbf Infinity": _signed(_claims(nbf=-math.inf)),
    "nbf null": _signed(_claims(nbf=None)),
    "iat ahead": _signed(_claims(iat=int(time.time()) + 86400)),
    "iat text": _signed(_claims(iat="soon")),
    "aud of somebody else": _signed(_claims(aud="another-service")),
    "refresh token": _signed(_claims(token_type="refresh")),
    "token_type null": _signed(_claims(token_type=None)),
    "token_type a list": _signed(_claims(token_type=["access"])),
    "user_id missing": _signed(_without("user_id")),
    "user_id a number": _signed(_claims(user_id=1)),
    "user_id empty": _signed(_claims(user_id="")),
    "user_id no uuid": _signed(_claims(user_id="../admin")),
    "user_id without dashes": _signed(_claims(user_id=USER_ID.replace("-", ""))),
    "user_id a list": _signed(_claims(user_id=[USER_ID])),
    "crit unknown": _signed(_claims(), {"alg": "HS256", "crit": ["x"], "x": 1}),
    "not base64 payload": GOOD.split(".")[0] + ".*." + GOOD.split(".")[2],
}

BAD_HEADERS = {
    "empty": "",
    "only the scheme": "Bearer",
    "scheme and a blank": "Bearer ",
    "another scheme": f"Basic {GOOD}",
    "no scheme": GOOD,
    "two tokens": f"Bearer {GOOD}, Bearer {GOOD}",
    "two words": f"Bearer {GOOD} {GOOD}",
    "not ASCII": "Bearer ä.ö.ü",
    "quoted": f'Bearer "{GOOD}"',
    "64 KB": "Bearer " + "A" * 65536,
    "a tab": f"Bearer\t{GOOD}",
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_wrong_token_is_one_kind_of_error(bad: str) -> None:
    """Whatever is wrong with a token, it ends in NotAuthenticatedError and nothing else."""
    with pytest.raises(NotAuthenticatedError):
        read_caller(f"Bearer {bad}", SECRET)


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_garbled_header_is_one_kind_of_error(header: str) -> None:
    """Whatever the header holds beside one bearer token, it is refused."""
    with pytest.raises(NotAuthenticatedError):
        read_caller(header, SECRET)


@pytest.mark.parametrize(
    "header",
    [*BAD_HEADERS.values(), *(f"Bearer {bad}" for bad in BAD_TOKENS.values())],
    ids=[*BAD_HEADERS, *BAD_TOKENS],
)
def test_refusals_ask_for_a_bearer_token(app: Flask, header: str) -> None:
    """Over HTTP each of them is a 401 in JSON with `WWW-Authenticate: Bearer`."""
    answer = Asker(app, None).get("/appointments/", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert set(answer.get_json()) == {"detail"}


def test_a_token_counts_in_the_authorization_header_only(app: Flask) -> None:
    """A good token in the query string or a cookie is not looked at."""
    good = token(user_role="admin")
    asker = Asker(app, None)
    assert asker.get(f"/appointments/?token={good}&access_token={good}").status_code == 401
    assert (
        asker.get("/appointments/", headers={"Cookie": f"token={good}; access_token={good}"}).status_code
        == 401
    )


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("customer", Role.CUSTOMER),
        ("employee", Role.EMPLOYEE),
        ("admin", Role.ADMIN),
        ("service", Role.SERVICE),
        (None, Role.CUSTOMER),
        ("Admin", Role.CUSTOMER),
        ("root", Role.CUSTOMER),
        (["admin"], Role.CUSTOMER),
        ({"admin": 1}, Role.CUSTOMER),
        (1, Role.CUSTOMER),
    ],
)
def test_unknown_roles_have_a_customers_rights(given: object, role: Role) -> None:
    """Only the exact words of the platform give more than a customer has."""
    caller = read_caller(f"Bearer {_signed(_claims(user_role=given))}", SECRET)
    assert (caller.actor.role, caller.actor.user_id) == (role, USER_ID)


def test_a_missing_role_has_a_customers_rights() -> None:
    """A token without `user_role` is a customer's."""
    assert read_caller(f"Bearer {_signed(_without('user_role'))}", SECRET).actor.role is Role.CUSTOMER


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_token_is_let_in(scheme: str) -> None:
    """The scheme is read in any case, ids become lower case, the token is kept for the upstreams, unshown."""
    good = _signed(_claims(user_id=USER_ID.upper(), exp=time.time() + 600.5, nbf=1.5, iat=1, sub=5, jti=6))
    caller = read_caller(f"{scheme} {good}", SECRET)
    assert caller == Caller(caller.actor, good)
    assert caller.actor.user_id == USER_ID
    assert good not in repr(caller)


def test_nbf_counts_to_the_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that begins later within this very second is refused, though PyJWT rounds down."""
    begins_s = time.time() - 50
    monkeypatch.setattr("servease_appt.api.tokens.time.time", lambda: begins_s - 0.1)
    with pytest.raises(NotAuthenticatedError):
        read_caller(f"Bearer {_signed(_claims(nbf=begins_s))}", SECRET)


def test_a_service_needs_no_user() -> None:
    """The role `service` is let in without a `user_id`."""
    assert read_caller(f"Bearer {token(user_id=None, user_role='service')}", SECRET).actor.user_id == ""


def test_the_same_id_in_another_role_is_another_person(dataset: Dataset) -> None:
    """An employee whose id happens to be a customer's is no owner, and the customer is no staff."""
    appointment_id = dataset.appointment(customer_id=dataset.erin_id)
    customer = Asker(dataset.app, token(user_id=dataset.erin_id))
    assert customer.post(f"/appointments/{appointment_id}/confirm/").status_code == 403
    assert customer.get(f"/appointments/{new_id()}/").status_code == 404
