"""The scheduled runs of RefNet: Celery's beat, or systemd's timers."""
