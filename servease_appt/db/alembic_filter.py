"""For a host that keeps its own tables in the same database and has Alembic compare them with its models.

The service's tables belong to none of the host's models: `flask db migrate` would write a migration that drops
them.
"""

from typing import Any, Final

from servease_appt.db.models import Base
from servease_appt.db.versions import VERSION_TABLE

OUR_TABLES: Final = frozenset(
    {
        *Base.metadata.tables,
        VERSION_TABLE,
        "appointment_day_locks",
    }
)
"""Every table that `flask servease db upgrade` and `db rules --enforce` make."""


def include_object(_object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Return whether Alembic should look at something, for `context.configure(include_object=…)`.

    Args:
        name: the thing's name.
        type_: `table`, `column`, `index` and the like.
        reflected: whether it was found in the database, and not in the host's models.
        compare_to: what the host's models have under the same name; None for nothing.

    Returns:
        False for a table of the service's that the host's models know nothing of; True for all else.

    Example:
        >>> from flask_migrate import Migrate
        >>> migrate = Migrate(include_object=include_object)
    """
    return not (type_ == "table" and reflected and compare_to is None and name in OUR_TABLES)
