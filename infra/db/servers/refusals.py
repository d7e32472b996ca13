"""What libpq and the server say when a connection fails, turned into errors with words and a next command.

The texts are English: libpq's programs run with LC_ALL=C, and the few that a server sends in its own language
end as `ConnectionFailed`, which shows them as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.db import errors

if TYPE_CHECKING:
    from infra.db.errors import ConnectionFailed, ServerError
    from infra.db.servers import Address
    from infra.db.settings import Settings

# In this order, not in that of the message: libpq tries with and without TLS and reports both attempts, and the one
# that got further (a refused password) is the reason, not the one that the server did not admit at all.
KINDS: dict[type[ConnectionFailed], tuple[str, ...]] = {
    errors.PasswordRefused: (
        "(password|LDAP|PAM|RADIUS) authentication failed",
        "no password supplied",
        "empty password returned",
    ),
    errors.DatabaseMissing: ('database ".*" does not exist',),
    errors.RoleRefused: (
        'role ".*" does not exist',
        'role ".*" is not permitted to log in',
        "authentication failed for user",
    ),
    errors.DatabaseClosed: (
        "permission denied for database",
        'database ".*" is not currently accepting connections',
    ),
    errors.ServerFull: ("too many (clients|connections)", "remaining connection slots"),
    errors.TlsNotOffered: ("server does not support SSL", "GSSAPI encryption required but was impossible"),
    errors.CertificateRefused: ("certificate verify failed", "does not match host name"),
    errors.TlsSettings: (
        "(root certificate|certificate|private key) file",
        "support is not compiled in",
        "invalid (sslmode|gssencmode|sslnegotiation) value",
        "weak sslmode",
        "GSSAPI encryption required but no credential",
    ),
    # A server that turns away the attempt with TLS has no place for us; one that was only tried without may have.
    errors.NotAdmitted: ("pg_hba.conf .*(SSL|GSS) encryption", "GSSAPI-encrypted", "pg_hba.conf rejects"),
    errors.TlsRequired: ("no pg_hba.conf entry .*no encryption",),
    errors.HostUnknown: (
        "could not translate host name",
        "failed to resolve host",
        "getaddrinfo failed",
        "Name or service not known",
    ),
    errors.ConnectionRefused: ("Connection refused", "actively refused"),
    errors.HostUnreachable: (
        "timeout expired",
        "timed out",
        "No route to host",
        "Network is unreachable",
        "Host is down",
    ),
    errors.NotPostgres: (
        "invalid response to (SSL|GSSAPI) negotiation",
        "expected authentication request",
        "unsupported frontend protocol",
        "wrong version number",
    ),
}


def words(message: str, settings: Settings, address: Address) -> ServerError:
    """Return the error for what libpq said.

    Args:
        message: libpq's text, of psycopg or of a program; a line for each attempt.
        settings: who wanted to connect to which database.
        address: where.

    """
    lines = message.strip().splitlines() or [""]
    for kind, patterns in KINDS.items():
        for line in lines:
            if re.search("|".join(patterns), line):
                return kind(_attempt(line, settings, address))
    return errors.ConnectionFailed(_attempt(lines[0], settings, address))


def _attempt(line: str, settings: Settings, address: Address) -> errors.Attempt:
    # What is known already (which program, which address) is left out of the line that is shown.
    said = re.sub(
        r"^(\S+: error: )?(connection failed: )?(connection to server (at|on) .*? failed: )?", "", line.strip()
    )
    return errors.Attempt(host=address.host, port=address.port, database=settings.name, user=settings.user, said=said)
