"""Write the newest artifact of a remote store, decrypted, to the standard output: a program of its own, as `restic dump` is."""

import sys
from pathlib import Path
from shutil import copyfileobj

from refnet import wiring
from refnet.cli.context import current_settings
from refnet.recovery.sealing.keys import read_keys

if __name__ == "__main__":
    key, name = sys.argv[1:]
    store = wiring.remote_store(current_settings(), name, read_keys(Path(key)))
    with store.artifact(max(store.entries(), key=lambda one: one.created)).open() as reader:
        copyfileobj(reader, sys.stdout.buffer, 1 << 20)
