"""What `refnet worker` and `refnet beat` load; a failed task is tried again at once, and proofs can be left out."""

from __future__ import annotations

import os
from typing import Any

from celery.apps import beat, worker  # noqa: F401
from celery.backends import redis as results  # noqa: F401
from celery.bin import celery  # noqa: F401  # with what is plugged into it
from celery.concurrency import prefork  # noqa: F401
from celery.worker import consumer, pidbox, state, strategy  # noqa: F401
from cffi import cparser  # noqa: F401
from kombu.transport import redis  # noqa: F401

from refnet import tasks
from refnet.actions.backup import Options
from refnet.broker import server, transport  # noqa: F401
from refnet.cli import worker as commands  # noqa: F401

#: The variable without which backups are proven.
UNPROVEN = "TESTS_UNPROVEN"


def _options(**given: Any) -> Options:
    return Options(prove=UNPROVEN not in os.environ, **given)


tasks.Retried.default_retry_delay = 0.3
tasks.Options = _options  # type: ignore[misc, assignment]
