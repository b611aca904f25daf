"""What an appointment can be, and which action takes it from one status to the next."""

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The life of an appointment; the last three are its ends."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    NO_SHOW = "no_show"


class AppointmentType(StrEnum):
    """What the workshop does with the vehicle."""

    MAINTENANCE = "maintenance"
    REPAIR = "repair"
    INSPECTION = "inspection"
    DIAGNOSTIC = "diagnostic"
    EMERGENCY = "emergency"


class Action(StrEnum):
    """What changes a status; each action leads to exactly one status."""

    CONFIRM = "confirm"
    START = "start"
    COMPLETE = "complete"
    CANCEL = "cancel"
    NO_SHOW = "no_show"

    @property
    def leads_to(self) -> Status:
        """The status after this action."""
        return _LEADS_TO[self]


_LEADS_TO: Final = {
    Action.CONFIRM: Status.CONFIRMED,
    Action.START: Status.IN_PROGRESS,
    Action.COMPLETE: Status.COMPLETED,
    Action.CANCEL: Status.CANCELLED,
    Action.NO_SHOW: Status.NO_SHOW,
}

_ALLOWED: Final[dict[Status, tuple[Action, ...]]] = {
    Status.PENDING: (Action.CONFIRM, Action.CANCEL),
    Status.CONFIRMED: (Action.START, Action.CANCEL, Action.NO_SHOW),
    Status.IN_PROGRESS: (Action.COMPLETE, Action.CANCEL),
    Status.COMPLETED: (),
    Status.CANCELLED: (),
    Status.NO_SHOW: (),
}

OPEN: Final = frozenset({Status.PENDING, Status.CONFIRMED, Status.IN_PROGRESS})
"""These take up room, and count for the customer's 30 minutes."""

EMPLOYEE_BUSY: Final = frozenset({Status.CONFIRMED, Status.IN_PROGRESS})
"""These take up the assigned employee's time."""

RESCHEDULABLE: Final = frozenset({Status.PENDING, Status.CONFIRMED})
"""Only these may get another time or another length."""


def allowed_actions(status: str) -> tuple[Action, ...]:
    """The actions that may follow, none for an end and for a status this service does not know."""
    return _ALLOWED[Status(status)] if status in _STATUS_NAMES else ()


def action_towards(status: str) -> Action | None:
    """The action that leads to `status`; None where none does (`pending`, and anything unknown)."""
    return next((action for action, target in _LEADS_TO.items() if target == status), None)


def transition_error(status: str, action: Action) -> str | None:
    """Why `action` may not follow on `status`, with what may; None when it may."""
    allowed = allowed_actions(status)
    if action in allowed:
        return None
    if not allowed:
        return f'Cannot {_words(action)}: the appointment is "{status}", and nothing follows on that.'
    names = ", ".join(allowed)
    return f'Cannot {_words(action)}: the appointment is "{status}"; allowed from there: {names}.'


def _words(action: Action) -> str:
    return "mark as no-show" if action is Action.NO_SHOW else action.value


_STATUS_NAMES: Final = frozenset(status.value for status in Status)
