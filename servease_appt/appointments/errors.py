"""The errors of the use cases.

BookingError
├── NotFound                no such thing, or the actor may not see it
├── Forbidden               this actor may not do that
├── FieldErrors             a value is wrong: which field, and what is allowed
├── RuleBroken              the values are right, a rule of the calendar is against it
├── PreconditionFailed      changed since the caller looked
├── ChangesDropped          the changes asked for are no longer kept
├── KeyReused               the idempotency key was used with another body
├── KeyBusy                 the request that holds the idempotency key is still running
└── ReferencesUnavailable   a service could not be asked about customer, vehicle or employee

`servease_appt.db.errors.DatabaseUnavailable` is none of these: it passes through every use case as it is.
"""

from collections.abc import Mapping, Sequence


class BookingError(Exception):
    """The base of all errors of the use cases."""


class NotFound(BookingError):
    """There is no such row, or a customer asked for someone else's."""


class Forbidden(BookingError):
    """The actor's role does not allow it. The text is meant for the caller."""


class FieldErrors(BookingError):
    """One or more values are refused.

    Attributes:
        errors: field name to the messages for it, never empty.
    """

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in errors.items()))
        self.errors: dict[str, list[str]] = {field: list(texts) for field, texts in errors.items()}


class RuleBroken(BookingError):
    """A rule of the calendar is against it.

    Attributes:
        messages: one sentence for each broken rule, never empty.
    """

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(" ".join(messages))
        self.messages: list[str] = list(messages)


class PreconditionFailed(BookingError):
    """If-Match names a version that is no longer the current one."""


class ChangesDropped(BookingError):
    """Changes are asked for from a place that is no longer kept: the caller has to read everything again."""


class KeyReused(BookingError):
    """The idempotency key came with another body before."""


class KeyBusy(BookingError):
    """Another request with the same idempotency key is still running.

    Attributes:
        retry_after_s: whole seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ReferencesUnavailable(BookingError):
    """An upstream could not answer, and this actor may not book without its answer.

    Attributes:
        retry_after_s: whole seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
