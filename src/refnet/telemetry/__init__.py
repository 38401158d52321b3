"""What RefNet tells of itself: metrics, messages, logs. A backup needs none of it, and none of it fails a backup."""
