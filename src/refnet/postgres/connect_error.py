"""The error where no session with a server can be opened."""

from refnet.core.errors import Exit, RefnetError

NO_SUCH_DATABASE = "3D000"


class ConnectError(RefnetError):
    """A session could not be opened. `sqlstate`: the server's reason; None if no server answered or it is unknown."""

    def __init__(
        self,
        message: str,
        hint: str,
        sqlstate: str | None = None,
        transient: bool = False,
        code: Exit = Exit.FAILED,
    ) -> None:
        super().__init__(message, hint, code, transient)
        self.sqlstate = sqlstate

    @property
    def no_such_database(self) -> bool:
        return self.sqlstate == NO_SUCH_DATABASE
