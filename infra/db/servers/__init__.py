"""Where PostgreSQL runs: one small Protocol, three implementations beside this file.

The migrator is given a `Server` and knows nothing else about where it lives. Everything that can be
asked over a connection is asked by `infra.db.database` with psycopg; a server is only asked for what
a connection cannot do: where it answers, starting and stopping it, and running the programs that
belong to it (psql, pg_dump, pg_restore).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from infra.db.check import Check
    from infra.db.errors import ServerError
    from infra.db.servers.process import Process


class Address(NamedTuple):
    """Where clients on this machine reach the server.

    Attributes:
        host: a name or an IP address.
        port: a TCP port.

    """

    host: str
    port: int


class Identity(NamedTuple):
    """What the server that answered a connection says of itself.

    Attributes:
        address: its own IP address as it sees it (`inet_server_addr()`), empty on a socket.
        system_identifier: of its data directory (`pg_control_system()`), cloned with a volume.
        started_at: `pg_postmaster_start_time()` as text, to the microsecond.
        major: PostgreSQL's major version; 0 when it was not asked.
        tls: whether the connection to it is encrypted.

    """

    address: str
    system_identifier: str
    started_at: str
    major: int = 0
    tls: bool = False


class Examination(NamedTuple):
    """What only a server knows of its health.

    Attributes:
        checks: of what it stands on, in order: the engine, the image, the data, the port, ...
        space: bytes that are free in each place where it keeps something.
        leftovers: what killed runs left behind there, each with the command that removes it.

    """

    checks: tuple[Check, ...]
    space: Mapping[str, int]
    leftovers: Mapping[str, str]


class Programs(Protocol):
    """The programs that belong to a server, connected to one database of it: all that running SQL files needs."""

    def execute(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        into: Sequence[str] | None = None,
    ) -> Process:
        """Start one of the server's own client programs, connected by PG* variables as the configured user.

        Args:
            program: `psql`, `pg_dump` or `pg_restore`.
            arguments: without any connection argument and without any secret. A Path, given together with a folder,
                is a file of this machine; the program is told where it finds it.
            folder: a folder of this machine whose files the program finds in its current directory.
            env: further environment variables (PGAPPNAME, PGOPTIONS, ...).
            into: the arguments of a psql that reads the program's output; the exit code is psql's then.

        Raises:
            ServerError: when the program cannot be started.

        """

    def sweep(self, folder: Path) -> str:
        """Return a shell command that removes what killed runs left beside the copy of `folder`; empty: nothing to do.

        It is run by psql under the run's lock, so nobody else's files are in use; see `psql.driver`.
        """


class Server(Programs, Protocol):
    """A PostgreSQL server that this machine can use.

    Attributes:
        kind: `docker`, `embedded` or `external`, as in the JSON output.

    """

    kind: str

    def place(self) -> str:
        """Where it is, in words for the summary: `container infra-postgres-1`, `.postgres/`."""

    def address(self) -> Address | None:
        """Where it answers now; None when it is there but stopped, or not there. Starts nothing, creates nothing."""

    def exists(self) -> bool:
        """Tell whether it was ever created: a stopped server exists, and its data with it."""

    def start(self, tell: Callable[[str], None]) -> Address:
        """Find it, or create and start it; does not wait until it is ready.

        Args:
            tell: called with a short line for each step that takes time.

        Raises:
            ServerError: with the words for what went wrong.

        """

    def trouble(self) -> ServerError | None:
        """Asked a few times a second while waiting for readiness: has it died? Cheap."""

    def explain(self, error: ServerError) -> ServerError:
        """Return the error with what only this server knows about it (a volume made with another password, ...)."""

    def verify(self, identity: Identity) -> None:
        """Raise ServerError when whoever answered the connection is not this server."""

    def examine(self) -> Examination:
        """Look at everything that it stands on. Starts, creates and changes nothing; a fault is a check, no error."""

    def foreground(self, program: str, arguments: Sequence[str], *, at_terminal: bool) -> int:
        """Run a client program with our own standard streams, connected like `execute`, until it ends.

        Args:
            program: `psql`.
            arguments: without any connection argument and without any secret.
            at_terminal: somebody sits there; Ctrl-C is the program's then, and its text has the terminal's encoding.

        Returns:
            Its exit code; 128 and the signal's number where a signal ended it.

        Raises:
            ServerError: the server is not running, or there is no such program.

        """

    def logs(self, *, tail: int | None, follow: bool) -> Process:
        """Read the server's log, running or not, oldest line first.

        Args:
            tail: only so many of the last lines; None for all.
            follow: go on with what is added, until the server stops.

        Raises:
            ToolError: it was never created, or its log is out of reach.

        """

    def stop(self) -> bool:
        """Stop it and keep its data; False when it was not running."""

    def destroy(self) -> list[str]:
        """Stop it and delete its data; the names of what was deleted."""
