"""What makes RefNet run by itself: Celery's beat, or systemd's timers."""
