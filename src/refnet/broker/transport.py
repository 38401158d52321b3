"""Kombu's transport for Redis with three fixes, and Celery's events and Kombu's mailbox with one each.

Once registered, Celery uses this transport for every redis:// URL.

1. Kombu's Redis takes the lowest priority first, RabbitMQ and the specification the highest: here 9 goes first too.
2. Kombu delivers a message again after `visibility_timeout`, even if its worker lives. The time would have to be longer
   than the longest backup, and a message of a dead worker would wait as long. Here a living worker renews its messages:
   the time can be short, and no running task is delivered twice.
3. A worker with unacknowledged messages crashes if the broker goes away, as Kombu acknowledges them on a closed
   connection. Here they stay unacknowledged, and the broker delivers them again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from kombu.messaging import Producer
from kombu.pidbox import Mailbox
from kombu.transport import TRANSPORT_ALIASES, redis
from redis import exceptions


class QoS(redis.QoS):
    """The unacknowledged messages of this worker."""

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Renew our own messages, then deliver those of dead workers again."""
        pending = self._delivered.keys() - self._dirty
        if pending:
            with self.channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(pending, time.time()), xx=True)
        super().restore_visible(*args, **options)  # type: ignore[no-untyped-call]

    def restore_unacked(self, client: Any = None) -> None:
        if self._is_gone:
            self._delivered.clear()
        else:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        if not self._is_gone:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._is_gone:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]

    @property
    def _is_gone(self) -> bool:
        gone: bool = self.channel.is_gone
        return gone


class Channel(redis.Channel):
    QoS = QoS

    @property
    def is_gone(self) -> bool:
        """Whether the connection of this channel has ended; Kombu then opens a new one."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> Any:
        """Kombu's connection parameters; if the connection has ended, the error that makes Kombu open a new one."""
        if self.is_gone:
            raise exceptions.ConnectionError("the connection to the broker has ended")
        return super()._connparams(asynchronous)  # type: ignore[no-untyped-call]

    def _get_message_priority(self, message: Any, reverse: bool = False) -> int:
        priority: int = super()._get_message_priority(  # type: ignore[no-untyped-call]
            message, reverse=not reverse
        )
        return priority


class Transport(redis.Transport):
    Channel = Channel


class Dispatcher(EventDispatcher):
    """Celery's event dispatcher without retries: a heartbeat does not wait for an unreachable broker.

    A retry would block the worker's loop, which then neither reconnects nor ends on SIGTERM.
    """

    def send(self, *args: Any, **fields: Any) -> Any:
        """Send an event or buffer it for later, even if Celery asks for `retry`."""
        return super().send(*args, **fields | {"retry": False})


class WorkerEvents(Events):
    """Celery's events, sent by `Dispatcher`."""

    dispatcher_cls = Dispatcher


class _Once(Producer):
    """A producer without retries."""

    def publish(self, *args: Any, **options: Any) -> Any:
        return super().publish(*args, **options | {"retry": False})  # type: ignore[no-untyped-call]


class Questions(Mailbox):
    """Questions to workers, each sent once and on the connection it is asked on.

    Kombu's mailbox retries forever, and Celery's publishes to the broker of the settings that it read first.
    """

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Producer]:
        """Yield `producer`, or one for `channel`."""
        yield producer or _Once(channel, auto_declare=False)  # type: ignore[no-untyped-call]


def register() -> None:
    """Use this transport for redis:// and rediss:// in this process."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
