"""The events of workers, of which the broker may miss one."""

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):
    """Celery's dispatcher, but a heartbeat does not wait for a broker that is away.

    It would wait forever in the loop of the worker, which then neither connects again nor ends on SIGTERM.
    """

    def send(self, *args: Any, **fields: Any) -> Any:
        """Send an event, or keep it for later, also where Celery asks for `retry`."""
        return super().send(*args, **fields | {"retry": False})


class WorkerEvents(Events):
    """Celery's events, with that dispatcher."""

    dispatcher_cls = Dispatcher
