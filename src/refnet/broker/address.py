"""Checks whether a broker answers. No message contains its password."""

from urllib.parse import parse_qs, urlsplit

import redis

from refnet.core.errors import RefnetError

#: The longest time that a broker may take to answer, in seconds.
TIMEOUT_SECONDS = 5.0


def display(url: str) -> str:
    """Return the address of the broker at `url` for messages, without the password."""
    parts = urlsplit(url)
    return parts.path if _is_socket(url) else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def client(url: str) -> redis.Redis:
    """Return a connection to the broker at `url` (redis://, rediss:// or redis+socket://), opened at its first use."""
    if _is_socket(url):
        parts = urlsplit(url)
        number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        user = f"{parts.netloc.rsplit('@', 1)[0]}@" if "@" in parts.netloc else ""
        url = f"unix://{user}{parts.path}?db={number}"
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=None, protocol=2
    )


def check(url: str) -> None:
    """Raise RefnetError unless the broker at `url` accepts the login and answers."""
    where = display(url)
    try:
        with client(url) as connection:
            connection.ping()
    except redis.AuthenticationError as error:
        raise _refused(where, str(error)) from None
    except redis.BusyLoadingError:
        raise RefnetError(
            f"the broker at {where} is still loading its data", "Retry in a moment.", transient=True
        ) from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RefnetError(
            f"no broker answers at {where}: {_reason(error)}",
            "Start Redis or Valkey there, or fix REFNET_BROKER_URL; without that setting RefNet starts its own.",
            transient=True,
        ) from None
    except (redis.RedisError, ValueError) as error:
        raise RefnetError(
            f"the broker at {where} cannot be used: {error}",
            "Fix REFNET_BROKER_URL (redis://USER:PASSWORD@HOST:PORT/NUMBER), or that user's permissions.",
        ) from None


def _is_socket(url: str) -> bool:
    return url.startswith("redis+socket://")


def _refused(where: str, said: str) -> RefnetError:
    if "NOAUTH" in said or "required" in said.lower():
        return RefnetError(
            f"the broker at {where} requires a password, but none is set",
            "Put it into REFNET_BROKER_URL (redis://:PASSWORD@HOST:PORT/0), for instance in refnet.toml.",
        )
    return RefnetError(
        f"the broker at {where} rejects the password", "Fix the password in REFNET_BROKER_URL."
    )


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(getattr(cause, "strerror", None) or error).strip().rstrip(".") or "no reason given"
