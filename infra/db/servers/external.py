"""A PostgreSQL that somebody else runs, with the client programs of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.db import check, errors
from infra.db.servers import Address, Examination, clients, libpq
from infra.db.servers.process import LocalProcess, absolute, foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from infra.db.check import Check
    from infra.db.errors import ServerError
    from infra.db.servers import Identity
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

# \restrict came with the minor releases of August 2025 (CVE-2025-8714); every 18 has it.
RESTRICT = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
WITHOUT_TLS = frozenset({"", "disable", "allow", "prefer"})  # values of sslmode; libpq's own is prefer


class External:
    """The server at DB_HOST:DB_PORT."""

    kind = "external"

    def __init__(self, settings: Settings) -> None:
        """Look at nothing yet."""
        self._settings = settings
        self._address = Address(settings.host, settings.port)
        self._answered: Identity | None = None

    def place(self) -> str:
        """Return its host and port."""
        return f"{self._address.host}:{self._address.port}"

    def exists(self) -> bool:
        """Say yes: whoever runs it says where it is."""
        return True

    def address(self) -> Address | None:
        """Return what the settings say; whether it answers shows when it is asked."""
        return self._address

    def start(self, tell: Callable[[str], None]) -> Address:  # noqa: ARG002 - the Protocol's
        """Start nothing: it is not ours."""
        return self._address

    def trouble(self) -> ServerError | None:
        """Know nothing: its process is not ours to look at."""
        return None

    def explain(self, error: ServerError) -> ServerError:
        """Add nothing to the words of `refusals`."""
        return error

    def verify(self, identity: Identity) -> None:
        """Take whoever answers there, and keep which programs it takes."""
        self._answered = identity

    def execute(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        into: Sequence[str] | None = None,
    ) -> Process:
        """Start the newest one of this machine's programs."""
        argv = [str(self.program(program)), *map(absolute, arguments)]
        reader = [str(self.program("psql")), *into] if into else None
        variables = libpq.environment(self._settings, self._address, env)
        try:
            return LocalProcess(argv, env=variables, folder=folder, into=reader)
        except OSError as error:
            raise errors.ClientMissing(program, [f"{argv[0]}: {error}"]) from error

    def program(self, name: str) -> Path:
        """Return where a program is: the newest installed one that will do, or else the wheel's.

        pg_dump and pg_restore of the server's own version come first: what a newer pg_dump writes, an older
        pg_restore cannot read, and what a newer pg_restore writes, an older server may not understand.

        Args:
            name: `psql`, `pg_dump` or `pg_restore`.

        Raises:
            ClientMissing: with what was found and why it does not do.

        """
        passed_over = []
        for candidates in (clients.installed(name, self._settings.environment), clients.of_wheel(name)):
            for has, path in sorted(clients.newest(candidates), key=lambda each: not self._is_own(name, each[0])):
                if not (unfit := self._unfit(name, has, path)):
                    return path
                passed_over.append(f"{path} ({_shown(has)}) {unfit}")
        raise errors.ClientMissing(name, passed_over)

    def foreground(self, program: str, arguments: Sequence[str], *, at_terminal: bool) -> int:
        """Run the newest one of this machine's programs."""
        env = libpq.foreground(self._settings, self._address, at_terminal=at_terminal, kept=libpq.KEPT)
        return foreground([str(self.program(program)), *arguments], env=env, at_terminal=at_terminal)

    def logs(self, *, tail: int | None, follow: bool) -> Process:  # noqa: ARG002 - the Protocol's
        """Refuse: where the log is, and whether it may be read, only its owner knows."""
        raise errors.LogElsewhere(self.place())

    def sweep(self, folder: Path) -> str:  # noqa: ARG002 - the Protocol's
        """Return nothing: the files are in this machine's own temporary folder."""
        return ""

    def examine(self) -> Examination:
        """Look for the programs; see the Protocol."""
        return Examination((check.of("programs", self._programs_check),), {}, {})

    def _programs_check(self) -> Check:
        """Need psql for everything; without a pg_dump for this server, there are no backups."""
        psql = self.program("psql")
        try:
            dump = self.program("pg_dump")
        except errors.ClientMissing as error:
            return check.warning(
                "programs", f"{psql}, but no backups:\n{error.what}\n{error.where}".rstrip(), error.next
            )
        return check.ok("programs", f"{psql}\n{dump}")

    def stop(self) -> bool:
        """Refuse: it is not ours."""
        raise errors.NotStopped(self.place())

    def destroy(self) -> list[str]:
        """Refuse: it is not ours."""
        raise errors.NotDeleted(self.place())

    def _is_own(self, name: str, has: tuple[int, int]) -> bool:
        return name != "psql" and self._answered is not None and has[0] == self._answered.major

    def _unfit(self, name: str, has: tuple[int, int], path: Path) -> str:
        if name != "pg_dump" and not knows_restrict(has):
            return f"is too old: it lacks \\restrict, which fences migrations in ({_shown(_first(has[0]))} has it)"
        if self._answered and name != "psql" and has[0] < self._answered.major:
            return f"is older than the server, PostgreSQL {self._answered.major}, and would refuse"
        if path in clients.of_wheel(name) and (self._wants_tls() or (self._answered and self._answered.tls)):
            return "was built without TLS, which the server, PGSSLMODE or PGSSLROOTCERT demands"
        return ""

    def _wants_tls(self) -> bool:
        environment = self._settings.environment
        # `system` demands verify-full by itself (PostgreSQL's documentation, sslrootcert).
        return environment.get("PGSSLMODE", "") not in WITHOUT_TLS or environment.get("PGSSLROOTCERT") == "system"


def knows_restrict(has: tuple[int, int]) -> bool:
    r"""Tell whether a psql of this version has the meta-command `\restrict`."""
    return has >= _first(has[0])


def _first(major: int) -> tuple[int, int]:
    r"""Return the first version with `\restrict`, of a major version or after it."""
    supported = max(major, min(RESTRICT))
    return supported, RESTRICT.get(supported, 0)


def _shown(has: tuple[int, int]) -> str:
    return f"{has[0]}.{has[1]}"
