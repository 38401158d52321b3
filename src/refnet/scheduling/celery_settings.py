"""Celery's configuration, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refnet.broker import server
from refnet.catalog.source_name import SourceName
from refnet.scheduling import beat, places
from refnet.settings import Settings

#: Seconds after which the messages of a worker that is gone are delivered again. A live worker keeps its own.
LOST_AFTER = 60
#: Retried forever: a task that is due must not get lost because the broker is away.
_PATIENT = {"max_retries": None, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 5}


def configuration(settings: Settings, priorities: Mapping[SourceName, int]) -> dict[str, Any]:
    """Return Celery's configuration. priorities: configured source → the priority of its backup."""
    schedule, url = settings.schedule, settings.broker_url or server.url(settings.home)
    return {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": LOST_AFTER,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "priority_steps": list(range(10)),
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
            "socket_keepalive": True,
        },
        "result_backend": url,
        "result_backend_always_retry": True,
        "result_backend_max_sleep_between_retries_ms": 5000,
        "result_expires": 24 * 3600,
        "timezone": beat.zone_name(schedule),
        "beat_schedule": beat.beat_schedule(schedule, priorities),
        "beat_schedule_filename": str(places.beat_folder(settings.home, settings.instance) / "schedule"),
        "beat_scheduler": "refnet.scheduling.beat:Scheduler",
        "beat_sync_every": 1,
        "refnet_embedded_home": None if settings.broker_url else str(settings.home),
        "task_acks_late": True,
        "task_default_queue": places.queue_name("backup", settings.instance),
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        "task_routes": {
            **{task: {"priority": priority} for _, task, priority in beat.ENTRIES.values()},
            **{
                f"refnet.tasks.{queue}": {"queue": places.queue_name(queue, settings.instance), "priority": 5}
                for queue in places.QUEUES[1:]
            },
        },
        "task_publish_retry_policy": _PATIENT,
        "task_track_started": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_concurrency": 2,
        "worker_max_tasks_per_child": 10,
        "worker_prefetch_multiplier": 1,
        "worker_redirect_stdouts": False,
    }
