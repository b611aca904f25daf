"""`servease-gunicorn`: gunicorn, with a check in front of what it reads when it is imported.

gunicorn takes WEB_CONCURRENCY as a number before it reads a configuration file, and ends with a traceback over
anything else, an empty value too. The arguments are gunicorn's.
"""

import os
import sys
from typing import Final

from servease_appt.early_interrupt import silent_interrupt

WORKERS: Final = "WEB_CONCURRENCY"
DEFAULT_WORKERS: Final = 2
MOST_WORKERS: Final = 256


def whole_number(name: str, default: int, most: int) -> int:
    """Return a variable's value, or `default` where it is unset or empty.

    Raises:
        SystemExit: it is no whole number from 1 to `most`; the text is one line.
    """
    given = os.environ.get(name) or str(default)
    if given.isascii() and given.isdigit() and len(given) <= len(str(most)) and 1 <= int(given) <= most:
        return int(given)
    sys.exit(f"{name}={given!r} can't be used: allowed is a whole number from 1 to {most}")


def main() -> None:
    """Check the variable and run gunicorn."""
    os.environ[WORKERS] = str(whole_number(WORKERS, DEFAULT_WORKERS, MOST_WORKERS))
    with silent_interrupt():  # until gunicorn sets handlers of its own
        from gunicorn.app.wsgiapp import run

        run()


if __name__ == "__main__":
    main()
