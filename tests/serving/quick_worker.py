"""The worker with short limits, so that a test sees them reached."""

from servease_appt.serving.worker import BufferingWorker


class QuickWorker(BufferingWorker):
    """One second to send a request, and one to take its answer."""

    read_timeout_s = 1.0
    write_timeout_s = 1.0
    max_queued_s = 0.3
