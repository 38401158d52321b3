"""Print a lock file without the packages that only developers need; hatchling builds RefNet itself.

Usage: locked.py LOCK PYPROJECT
"""

import re
import sys
import tomllib
from pathlib import Path


def names(requirements: list[str]) -> set[str]:
    """Return the names of requirements, as a lock file writes them."""
    return {re.split(r"[^A-Za-z0-9._-]", one)[0].lower() for one in requirements}


def image(lock: str, pyproject: str) -> str:
    """Return the text of `lock` without the dependency group `dev` of `pyproject`."""
    left_out = names(tomllib.loads(pyproject)["dependency-groups"]["dev"]) - {"hatchling"}
    packages = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(one for one in packages if not names([one]) & left_out)


if __name__ == "__main__":
    sys.stdout.write(image(*(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3])))
