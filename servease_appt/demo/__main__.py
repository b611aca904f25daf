"""`python -m servease_appt.demo`: run the whole service with all servers that it needs, until Ctrl-C."""

import sys

from servease_appt.early_interrupt import silent_interrupt

if __name__ == "__main__":
    with silent_interrupt():
        from servease_appt.demo.run import main
    sys.exit(main())
