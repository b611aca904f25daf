"""Settings that are each allowed, and together are hardly meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from servease_appt.doctor.findings import Area, Finding
from servease_appt.settings import Settings

DEFAULT_PREFIX: Final = "appointment_service"
FEW_CHARACTERS: Final = 10

_area = Area("settings")


def check(settings: Settings) -> Iterator[Finding]:
    """Look at the settings of this process; the workers have the same if they were started alike."""
    found = [*_lifetimes(settings), *_names_and_secrets(settings)]
    yield from found or [_area.ok("Nothing contradicts itself.")]


def _lifetimes(settings: Settings) -> Iterator[Finding]:
    if settings.cache_l1_timeout_s > settings.cache_timeout_s:
        yield _area.warning(
            f"CACHE_L1_TIMEOUT={settings.cache_l1_timeout_s:g} is more than"
            f" CACHE_TIMEOUT={settings.cache_timeout_s:g}.",
            "A worker would outlive Redis; it is taken as the latter.",
            "Lower CACHE_L1_TIMEOUT, or raise CACHE_TIMEOUT.",
        )
    if settings.cache_l1_timeout_s == 0:
        yield _area.note(
            "CACHE_L1_TIMEOUT=0: L1 is off.",
            "Every page asks Redis; while Redis is away, every page asks the services for everything.",
        )
    if settings.cache_stale_timeout_s == 0:
        yield _area.note(
            "CACHE_STALE_TIMEOUT=0: no last known copies.",
            "When a service fails, its names turn into placeholders as they expire.",
        )
    if settings.cache_negative_timeout_s > settings.cache_timeout_s:
        yield _area.warning(
            f"CACHE_NEGATIVE_TIMEOUT={settings.cache_negative_timeout_s:g} is more than"
            f" CACHE_TIMEOUT={settings.cache_timeout_s:g}.",
            "That something does not exist is remembered longer than what does: a new customer stays Unknown.",
            "Lower CACHE_NEGATIVE_TIMEOUT.",
        )
    if settings.cache_timeout_s < settings.upstream_timeout_s:
        yield _area.warning(
            f"CACHE_TIMEOUT={settings.cache_timeout_s:g} is less than"
            f" UPSTREAM_TIMEOUT={settings.upstream_timeout_s:g}.",
            "Values may expire faster than they can be fetched.",
            "Raise CACHE_TIMEOUT.",
        )


def _names_and_secrets(settings: Settings) -> Iterator[Finding]:
    prefix = settings.cache_key_prefix
    if prefix != DEFAULT_PREFIX:
        yield _area.note(
            f"CACHE_KEY_PREFIX={prefix}.",
            f"Who still publishes on {DEFAULT_PREFIX}:invalidate is not heard.",
            f"Let the neighbouring services publish on {prefix}:invalidate.",
        )
    if len(set(settings.secret_key)) < FEW_CHARACTERS:
        yield _area.warning(
            f"SECRET_KEY is made of fewer than {FEW_CHARACTERS} different characters.",
            "Who guesses it can sign tokens for anybody.",
            "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`, for the authentication"
            " service as well.",
        )
