"""The places of a remote store's objects: a folder, an object storage, SFTP, rclone."""
