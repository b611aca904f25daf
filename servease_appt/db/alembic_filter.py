"""A filter for a host whose Alembic compares its own tables in the same database with its models.

The service's tables belong to none of the host's models. Without the filter, `flask db migrate` would write a
migration that drops them.
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
"""Every table that `flask servease db upgrade` and `db rules --enforce` create."""


def include_object(_object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Return True if Alembic should compare an object, for `context.configure(include_object=…)`.

    Args:
        name: the name of the object.
        type_: `table`, `column`, `index` and the like.
        reflected: True if the object was found in the database, and not in the host's models.
        compare_to: the object of the same name in the host's models; None if there is none.

    Returns:
        False for a table of this service that is not in the host's models; True for all else.

    Example:
        >>> from flask_migrate import Migrate
        >>> migrate = Migrate(include_object=include_object)
    """
    return not (type_ == "table" and reflected and compare_to is None and name in OUR_TABLES)
