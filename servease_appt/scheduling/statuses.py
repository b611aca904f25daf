"""The statuses of an appointment, and which action leads from one to the next."""

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The statuses; the last three are final."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    NO_SHOW = "no_show"


class AppointmentType(StrEnum):
    """The kinds of work."""

    MAINTENANCE = "maintenance"
    REPAIR = "repair"
    INSPECTION = "inspection"
    DIAGNOSTIC = "diagnostic"
    EMERGENCY = "emergency"


class Action(StrEnum):
    """The actions that change a status; each leads to exactly one status."""

    CONFIRM = "confirm"
    START = "start"
    COMPLETE = "complete"
    CANCEL = "cancel"
    NO_SHOW = "no_show"

    @property
    def leads_to(self) -> Status:
        """Return the status after this action."""
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
"""Appointments with these statuses take up room, and count for the customer's 30 minutes."""

EMPLOYEE_BUSY: Final = frozenset({Status.CONFIRMED, Status.IN_PROGRESS})
"""Appointments with these statuses take up the assigned employee's time."""

RESCHEDULABLE: Final = frozenset({Status.PENDING, Status.CONFIRMED})
"""Only appointments with these statuses may get another time or another length."""


def allowed_actions(status: str) -> tuple[Action, ...]:
    """Return the actions that may follow; none for a final status and for one that this service does not know."""
    return _ALLOWED[Status(status)] if status in _STATUS_NAMES else ()


def action_towards(status: str) -> Action | None:
    """Return the action that leads to `status`; None where none does (`pending`, and anything unknown)."""
    return next((action for action, target in _LEADS_TO.items() if target == status), None)


def transition_error(status: str, action: Action) -> str | None:
    """Return why `action` may not follow on `status`, and what may; None when it may."""
    allowed = allowed_actions(status)
    if action in allowed:
        return None
    if not allowed:
        return f'Cannot {_words(action)}: the appointment is "{status}", which is final.'
    names = ", ".join(allowed)
    return f'Cannot {_words(action)}: the appointment is "{status}"; allowed from there: {names}.'


def _words(action: Action) -> str:
    return "mark as no-show" if action is Action.NO_SHOW else action.value


_STATUS_NAMES: Final = frozenset(status.value for status in Status)
