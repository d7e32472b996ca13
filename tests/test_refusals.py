"""What libpq says when a connection fails: each text was seen, and each becomes one error with words of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.db import errors, settings
from infra.db.servers import Address, refusals

ADDRESS = Address("db.example.org", 5433)
SETTINGS = settings.read(
    {
        "DB_HOST": ADDRESS.host,
        "DB_PORT": str(ADDRESS.port),
        "DB_NAME": 'the "db"',
        "DB_USER": "ann",
        "DB_PASSWORD": "s3",
    },
    root=Path("/nowhere"),
    dotenv={},
)
AT = 'connection to server at "db.example.org" (10.0.0.7), port 5433 failed: '
NO_ENTRY = 'no pg_hba.conf entry for host "10.0.0.9", user "ann", database "x", '
REJECTS = 'pg_hba.conf rejects connection for host "10.0.0.9", user "ann", database "x", '


def said(text: str) -> errors.ServerError:
    return refusals.words(text, SETTINGS, ADDRESS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f'{AT}FATAL:  password authentication failed for user "ann"', errors.PasswordRefused),
        (f"{AT}fe_sendauth: no password supplied", errors.PasswordRefused),
        (f'{AT}FATAL:  LDAP authentication failed for user "ann"', errors.PasswordRefused),
        (f'{AT}FATAL:  database "x" does not exist', errors.DatabaseMissing),
        (f'{AT}FATAL:  role "ann" does not exist', errors.RoleRefused),
        (f'{AT}FATAL:  role "ann" is not permitted to log in', errors.RoleRefused),
        (f'{AT}FATAL:  Peer authentication failed for user "ann"', errors.RoleRefused),
        (
            f'{AT}FATAL:  permission denied for database "x"\nDETAIL:  User does not have CONNECT privilege.',
            errors.DatabaseClosed,
        ),
        (f'{AT}FATAL:  database "x" is not currently accepting connections', errors.DatabaseClosed),
        (f"{AT}FATAL:  sorry, too many clients already", errors.ServerFull),
        (f'{AT}FATAL:  too many connections for role "ann"', errors.ServerFull),
        (
            f"{AT}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            errors.ServerFull,
        ),
        (f"{AT}server does not support SSL, but SSL was required", errors.TlsNotOffered),
        (f"{AT}SSL error: certificate verify failed", errors.CertificateRefused),
        (f'{AT}server certificate for "a" does not match host name "b"', errors.CertificateRefused),
        (f'{AT}root certificate file "/x/root.crt" does not exist\nEither provide the file or', errors.TlsSettings),
        ('psql: error: sslmode value "require" invalid when SSL support is not compiled in', errors.TlsSettings),
        ('connection is bad: invalid sslmode value: "bogus"', errors.TlsSettings),
        (f"{AT}FATAL:  {NO_ENTRY}SSL encryption", errors.NotAdmitted),
        (f"{AT}FATAL:  {REJECTS}no encryption", errors.NotAdmitted),
        (f"{AT}FATAL:  {NO_ENTRY}no encryption", errors.TlsRequired),
        ('could not translate host name "x" to address: Name or service not known', errors.HostUnknown),
        ("failed to resolve host None: [Errno -2] Name or service not known", errors.HostUnknown),
        ("failed to resolve host 'x': [Errno 11001] getaddrinfo failed", errors.HostUnknown),
        (f"{AT}Connection refused\n\tIs the server running on that host", errors.ConnectionRefused),
        (f"{AT}Connection refused (0x0000274D/10061)", errors.ConnectionRefused),
        (f"{AT}timeout expired", errors.HostUnreachable),
        (f"{AT}No route to host", errors.HostUnreachable),
        (f"{AT}received invalid response to SSL negotiation: H", errors.NotPostgres),
        (f"{AT}expected authentication request from server, but received H", errors.NotPostgres),
        (f"{AT}FATAL:  das ist neu", errors.ConnectionFailed),
        ("", errors.ConnectionFailed),
    ],
)
def test_each_text_becomes_its_own_error(text: str, kind: type[errors.ServerError]) -> None:
    assert type(said(text)) is kind


def test_the_attempt_that_got_further_is_the_reason() -> None:
    wrong, shut = 'FATAL:  password authentication failed for user "ann"', f"FATAL:  {NO_ENTRY}no encryption"
    for text in (f"{AT}{wrong}\n{AT}{shut}", f"{AT}{shut}\n{AT}{wrong}"):
        error = said(text)
        assert type(error) is errors.PasswordRefused
        assert error.where == f"  it said: {wrong}"


def test_a_server_that_turns_away_both_attempts_does_not_lack_tls() -> None:
    error = said(f"{AT}FATAL:  {NO_ENTRY}SSL encryption\n{AT}FATAL:  {NO_ENTRY}no encryption")
    assert type(error) is errors.NotAdmitted


def test_a_missing_database_is_told_with_the_commands_that_create_it() -> None:
    assert str(said(f'connection failed: {AT}FATAL:  database "the "db"" does not exist')) == (
        'There is no database the "db" on the server db.example.org:5433.\n'
        '  it said: FATAL:  database "the "db"" does not exist\n'
        "Nothing was changed.\n"
        "Create it:  createdb -h db.example.org -p 5433 -U ann 'the \"db\"'\n"
        'or, in psql as a role that may:  CREATE DATABASE "the ""db""" OWNER "ann";\n'
        "or name another one with DB_NAME."
    )


def test_a_refused_password_is_told_without_it() -> None:
    assert str(said(f'psql: error: {AT}FATAL:  password authentication failed for user "ann"')) == (
        "The server db.example.org:5433 refused the role ann or its password.\n"
        '  it said: FATAL:  password authentication failed for user "ann"\n'
        "Nothing was changed.\n"
        "Set DB_USER and DB_PASSWORD, in the environment or in .env, to a role of that server and its password."
    )


def test_a_refused_connection_is_told_with_what_to_look_at() -> None:
    assert str(said(f"{AT}Connection refused\n\tIs the server running on that host and accepting")) == (
        "Nothing answers at db.example.org:5433: the connection was refused.\n"
        "  it said: Connection refused\n"
        "Nothing was changed.\n"
        "Is PostgreSQL running there, and does it listen on that address (listen_addresses) and port? Try:\n"
        "  pg_isready -h db.example.org -p 5433\n"
        "or set DB_HOST and DB_PORT to where it is."
    )


def test_a_server_that_wants_tls_is_told_with_the_setting() -> None:
    assert str(said(f"{AT}FATAL:  {NO_ENTRY}no encryption")) == (
        'The server db.example.org:5433 does not admit the role ann to the database the "db" without TLS.\n'
        f"  it said: FATAL:  {NO_ENTRY}no encryption\n"
        "Nothing was changed.\n"
        "Turn TLS on: set PGSSLMODE=require (or verify-full, with PGSSLROOTCERT).\n"
        "If it is on: the program that connected was built without TLS; install PostgreSQL's own client programs.\n"
        "If TLS is not wanted, the server needs a line for it in pg_hba.conf."
    )


def test_an_unknown_text_is_shown_as_it_is() -> None:
    assert str(said(f"connection failed: {AT}FATAL:  das ist neu")) == (
        "PostgreSQL at db.example.org:5433 could not be used.\n"
        "  it said: FATAL:  das ist neu\n"
        "Nothing was changed.\n"
        "Check DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD:  invoke db.url"
    )


def test_an_ipv6_address_is_kept_apart_from_its_port() -> None:
    error = refusals.words("Connection refused", SETTINGS, Address("fe80::7", 5432))
    assert error.what == "Nothing answers at [fe80::7]:5432: the connection was refused."


@pytest.mark.parametrize("kind", list(refusals.KINDS))
def test_every_error_says_what_and_what_next_with_every_name_filled_in(kind: type[errors.ConnectionFailed]) -> None:
    error = kind(errors.Attempt(host="h", port=1, database="{d}", user="u", said="words"))
    assert error.what
    assert error.next
    assert "{" not in str(error).replace("{d}", "")
    assert error.exit_code == 5
