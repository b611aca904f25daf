"""For a Django service that owns customers: import this from the app's AppConfig.ready()."""

import redis
from customers.models import Customer
from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

bus = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


@receiver([post_save, post_delete], sender=Customer)
def forget_customer(instance: Customer, **_: object) -> None:
    message = f"customer_{instance.pk}"
    transaction.on_commit(lambda: bus.publish("appointment_service:invalidate", message), robust=True)
