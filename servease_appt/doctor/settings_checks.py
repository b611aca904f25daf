"""Settings that are each allowed, but in combination are probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

from servease_appt.doctor.findings import Area, Finding
from servease_appt.settings import Settings

DEFAULT_PREFIX: Final = "appointment_service"
FEW_CHARACTERS: Final = 10
_UNCHECKED: Final = {
    "ssl_cert_reqs": {"none"},
    "ssl_check_hostname": {"0", "f", "false", "n", "no"},
}
"""Options of REDIS_URL that accept the certificate of any server, by the values that do."""

_area = Area("settings")


def check(settings: Settings) -> Iterator[Finding]:
    """Check the settings of this process. Workers have the same ones if they run in the same environment."""
    found = [*_lifetimes(settings), *_names_and_secrets(settings), *_unchecked_certificates(settings)]
    yield from found or [_area.ok("No setting contradicts another.")]


def _lifetimes(settings: Settings) -> Iterator[Finding]:
    if settings.cache_l1_timeout_s > settings.cache_timeout_s:
        yield _area.warning(
            f"CACHE_L1_TIMEOUT={settings.cache_l1_timeout_s:g} is more than"
            f" CACHE_TIMEOUT={settings.cache_timeout_s:g}.",
            "L1 would keep values longer than Redis; CACHE_TIMEOUT is used for both.",
            "Lower CACHE_L1_TIMEOUT, or raise CACHE_TIMEOUT.",
        )
    if settings.cache_l1_timeout_s == 0:
        yield _area.note(
            "CACHE_L1_TIMEOUT=0: L1 is off.",
            "Every page queries Redis; while Redis is down, every page calls the services for every name.",
        )
    if not settings.cache_tracking:
        yield _area.note(
            "CACHE_TRACKING=0: Redis does not report changes of values to the workers.",
            "Invalidations reach every worker. After a DEL, SET or EVAL by another client, and after a refresh by"
            f" another worker, L1 keeps the old value for up to {settings.cache_l1_timeout_s:g} s.",
        )
    if settings.cache_stale_timeout_s == 0:
        yield _area.note(
            "CACHE_STALE_TIMEOUT=0: no stale copies.",
            "When a service fails, its names become placeholders as they expire.",
        )
    if settings.cache_negative_timeout_s > settings.cache_timeout_s:
        yield _area.warning(
            f"CACHE_NEGATIVE_TIMEOUT={settings.cache_negative_timeout_s:g} is more than"
            f" CACHE_TIMEOUT={settings.cache_timeout_s:g}.",
            "A 404 is remembered longer than a value: a new customer stays Unknown for that long.",
            "Lower CACHE_NEGATIVE_TIMEOUT.",
        )
    if settings.cache_timeout_s < settings.upstream_timeout_s:
        yield _area.warning(
            f"CACHE_TIMEOUT={settings.cache_timeout_s:g} is less than"
            f" UPSTREAM_TIMEOUT={settings.upstream_timeout_s:g}.",
            "Values may expire before they are loaded.",
            "Raise CACHE_TIMEOUT.",
        )


def _names_and_secrets(settings: Settings) -> Iterator[Finding]:
    prefix = settings.cache_key_prefix
    if prefix != DEFAULT_PREFIX:
        yield _area.note(
            f"CACHE_KEY_PREFIX={prefix}.",
            f"Invalidations published on {DEFAULT_PREFIX}:invalidate have no effect here.",
            f"Let the other services publish on {prefix}:invalidate.",
        )
    if len(set(settings.secret_key)) < FEW_CHARACTERS:
        yield _area.warning(
            f"SECRET_KEY has fewer than {FEW_CHARACTERS} different characters.",
            "Whoever guesses it can sign tokens for any user.",
            "Generate one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`, and give it to the"
            " authentication service as well.",
        )


def _unchecked_certificates(settings: Settings) -> Iterator[Finding]:
    options = parse_qs(urlsplit(settings.redis_url).query)
    for name, unchecked in _UNCHECKED.items():
        value = options.get(name, [""])[-1]
        if value.lower() in unchecked:
            yield _area.warning(
                f"REDIS_URL has {name}={value}.",
                "The connection is encrypted, but the server is not authenticated: another in its place reads the"
                " password and the cached names, and can change them.",
                f"Remove {name} from REDIS_URL. Give ssl_ca_certs=FILE if no public authority signed the"
                " certificate.",
            )
