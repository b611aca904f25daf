"""What gunicorn and the flask command load: `wsgi:app`."""

import sys

from servease_appt.app import create_app
from servease_appt.settings import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(str(error))
