import itertools

import pytest

from servease_appt.scheduling.statuses import (
    EMPLOYEE_BUSY,
    OPEN,
    RESCHEDULABLE,
    Action,
    AppointmentType,
    Status,
    action_towards,
    allowed_actions,
    transition_error,
)

EDGES = {
    ("pending", "confirm"): "confirmed",
    ("pending", "cancel"): "cancelled",
    ("confirmed", "start"): "in_progress",
    ("confirmed", "cancel"): "cancelled",
    ("confirmed", "no_show"): "no_show",
    ("in_progress", "complete"): "completed",
    ("in_progress", "cancel"): "cancelled",
}


@pytest.mark.parametrize(("status", "action"), list(itertools.product(Status, Action)))
def test_every_cell_of_the_transition_table(status: Status, action: Action) -> None:
    """An action is allowed exactly where the contract draws an edge, and leads where the edge leads."""
    target = EDGES.get((status.value, action.value))

    assert (action in allowed_actions(status)) == (target is not None)
    assert (transition_error(status, action) is None) == (target is not None)
    if target is not None:
        assert action.leads_to == target


def test_a_refusal_names_the_status_and_what_is_allowed() -> None:
    """Whoever is refused learns from where they tried and what would have been possible."""
    text = transition_error("confirmed", Action.COMPLETE)

    assert (
        text == 'Cannot complete: the appointment is "confirmed"; allowed from there: start, cancel, no_show.'
    )


def test_a_refusal_speaks_of_no_show_in_words() -> None:
    """The action's name is no verb."""
    assert str(transition_error("pending", Action.NO_SHOW)).startswith("Cannot mark as no-show: ")
    assert str(transition_error("completed", Action.NO_SHOW)).startswith("Cannot mark as no-show: ")


@pytest.mark.parametrize("action", Action)
def test_nothing_follows_on_an_unknown_status(action: Action) -> None:
    """A status from before this service is refused with its name, not a crash."""
    assert allowed_actions("on hold") == ()
    assert '"on hold"' in str(transition_error("on hold", action))


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("confirmed", Action.CONFIRM),
        ("in_progress", Action.START),
        ("completed", Action.COMPLETE),
        ("cancelled", Action.CANCEL),
        ("no_show", Action.NO_SHOW),
        ("pending", None),
        ("on hold", None),
    ],
)
def test_the_action_that_leads_to_a_status(status: str, action: Action | None) -> None:
    """Each status but the first is reached by one action."""
    assert action_towards(status) is action


def test_the_groups_of_statuses() -> None:
    """Open, busy and reschedulable are the statuses that the contract names."""
    assert {"pending", "confirmed", "in_progress"} == OPEN
    assert {"confirmed", "in_progress"} == EMPLOYEE_BUSY
    assert {"pending", "confirmed"} == RESCHEDULABLE


def test_the_types() -> None:
    """The five types of the contract."""
    assert list(AppointmentType) == ["maintenance", "repair", "inspection", "diagnostic", "emergency"]
