"""For a host with Celery: tasks use the same cache, and drop from it what they have changed."""

from typing import Any

from celery import Celery, Task
from flask import Flask

from servease_appt import get_customer_cached, invalidate_customer_cache


def make_celery(app: Flask) -> Celery:
    """Make a Celery application whose tasks run in the application context of `app`, a host with the service."""

    class ContextTask(Task):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=ContextTask)
    celery.config_from_object(app.config["CELERY"])

    @celery.task(name="greet")
    def greet(customer_id: str) -> str:
        """Write to a customer; the name comes from memory, Redis or the customer service."""
        return f"Dear {get_customer_cached(customer_id)['full_name']}"

    @celery.task(name="customer_renamed")
    def customer_renamed(customer_id: str) -> None:
        """Drop an old name from every worker. When Redis can't take it, Celery tries again."""
        invalidate_customer_cache(customer_id)

    return celery
