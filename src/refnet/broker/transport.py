"""Kombu's way to Redis, mended in three places; Celery takes it for every redis:// URL once it is registered.

1. Kombu's Redis takes the lowest number first, RabbitMQ and the specification the highest: 9 goes first here too.
2. Kombu hands a message out again after `visibility_timeout`, whether its worker still lives or not. So the time
   had to be longer than the longest backup, and a message that died with its worker waited as long. Here a worker
   that lives keeps its messages fresh: the time can be short, and nothing at work is handed out twice.
3. A worker dies of a broker that goes away while it holds messages, as Kombu answers them through a connection
   that is no more. Here they stay unanswered: the broker hands out again what nobody keeps fresh.
"""

from __future__ import annotations

import time
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis import exceptions


class QoS(redis.QoS):
    """The messages that this worker holds and has not answered yet."""

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Keep our own messages fresh, then hand out again those of workers that are gone."""
        held = self._delivered.keys() - self._dirty
        if held:
            with self.channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(held, time.time()), xx=True)
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
        """Whether the connection of this channel has ended; another one takes its place."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> Any:
        """As Kombu's, but a connection that has ended is the error that makes Kombu open another."""
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


def register() -> None:
    """Make this the transport of redis:// and rediss:// in this process."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
