r"""What psql is told and what it answers. Pure: text in, text and values out.

One psql runs a whole plan from a driver script. Three things keep a file from doing harm to the run:

- the fence: each file is preceded by `\restrict TOKEN`, under which psql refuses every backslash command
  (`\!`, `\connect`, `\q`, `\set ON_ERROR_STOP off`) until the driver says `\unrestrict TOKEN`;
- the guard: after each file, the transaction must still be the one that was begun before it, the history must still
  be the one that was read, and the run's lock still be ours, or the run ends;
- `\ir`: each file is lexed on its own, so an open quote stays its own mistake, with its own line numbers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from infra.db import history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.db.migration import Migration

ARGUMENTS = (
    "--no-psqlrc",
    "--quiet",
    "--no-align",
    "--tuples-only",
    "--set=ON_ERROR_STOP=1",
    "--set=VERBOSITY=verbose",  # the only one that shows the SQLSTATE beside the message
    "--set=ECHO=errors",  # the failed statement, from which its first line is found
    "--file=driver.sql",
)
NO_SURPRISES = ("--no-psqlrc", "--set=ON_ERROR_STOP=1")  # where nobody watches, the user's ~/.psqlrc has no say
LOCK = (0x4D4F5244, 0x45415558)  # two int4 keys of the session advisory lock: every run on a database takes it
TRY_LOCK = f"pg_catalog.pg_try_advisory_lock({LOCK[0]}, {LOCK[1]})"
SCRIPT_ERROR = 3  # psql's exit code for an error under ON_ERROR_STOP (psql manual, Exit Status)
CONNECTION_LOST = 2
SHOWN_HEAD = re.compile(r"psql:(?P<file>.*?):(?P<line>\d+): (?P<rest>.*)")
SERVER_SAID = re.compile(r"(?P<severity>[^:]+):  (?P<sqlstate>[0-9A-Z]{5}): (?P<text>.*)")
PART = re.compile(r"(?P<part>DETAIL|HINT|QUERY|CONTEXT|LOCATION|[A-Z]+ NAME):  (?P<text>.*)")
ENDS_SESSION = ("08", "25P03", "25P04", "53", "57P", "58", "XX")  # of FATAL and PANIC in an open session (Appendix A)
EXCERPT = re.compile(r"LINE (?P<number>\d+): ")
# A file without these words neither leaves prepared statements behind nor takes away the one that records it.
PREPARES = re.compile(r"(?i)prepare|deallocate|discard")


def shell(command: str, *, at_terminal: bool) -> list[str]:
    """Return the arguments of a psql for people: one command, else what is typed, else what is piped in.

    Args:
        command: SQL or one backslash command; empty for none.
        at_terminal: whether standard input is somebody who types.

    """
    if command:
        return [*NO_SURPRISES, f"--command={command}"]
    return [] if at_terminal else [*NO_SURPRISES, "--file=-"]  # which puts `psql:<stdin>:LINE:` before each error


def listing(command: str, *, width: int) -> list[str]:
    """Return the arguments that make psql show what a backslash command lists.

    Args:
        command: like the result of `describe`.
        width: of the terminal, in characters; 0 where there is none.

    """
    fitting = ["--pset=format=wrapped", "--pset=expanded=auto", f"--pset=columns={width}"] if width else []
    return [*NO_SURPRISES, *fitting, f"--command={command}"]


def describe(schema: str, name: str) -> str:
    r"""Return the `\d+` of one relation: between double quotes, psql takes every character for itself."""
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
    return rf"\d+ {quoted}"


def session_options(*, lock_timeout: str, server_version: int, server_is_windows: bool) -> str:
    """Return PGOPTIONS for the session that runs the files.

    Options of the connection win over what is set on the role or the database, and RESET ALL returns to them.
    A migration may take as long as it takes, in any state; and when psql dies the backend notices within half a
    second instead of finishing the statement (client_connection_check_interval, which Windows does not have).
    """
    options = {
        "search_path": "public",
        "lock_timeout": lock_timeout,
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
        "client_min_messages": "notice",
    }
    if server_version >= 170000:
        options["transaction_timeout"] = "0"
    if not server_is_windows:
        options["client_connection_check_interval"] = "500"
    return " ".join(f"-c {name}={value}" for name, value in options.items())


def staged_name(migration: Migration) -> str:
    """Return the name of a migration's file beside the driver; `SHOWN_HEAD` finds it again in psql's messages."""
    return f"{migration.version}.sql"


def fence(token: str) -> bytes:
    """Return the line put before each file; psql's line numbers are one too high because of it."""
    return f"\\restrict {token}\n".encode()


def driver(
    steps: Sequence[Migration], *, token: str, expected: history.History, single: bool = False, sweep: str = ""
) -> Iterator[str]:
    r"""Yield the driver script, piece by piece.

    Args:
        steps: the migrations to run, in order: all forward, or all back.
        token: unguessable; marks our lines in the output and closes the fence.
        expected: the history the plan was made from.
        single: one transaction around all files.
        sweep: a shell command that removes what killed runs left behind; it runs under the lock.

    """
    yield (
        f"SELECT {TRY_LOCK} AS _migrate_locked \\gset\n"
        f"\\if :_migrate_locked\n\\else\n\\echo {token} BUSY\n\\q\n\\endif\n"
    )
    if sweep:
        yield f"\\! {sweep}\n"
    if not expected.exists:
        yield f"SET client_min_messages = warning;\nBEGIN;\n{history.CREATE}COMMIT;\nRESET client_min_messages;\n"
    yield (
        f"SELECT {history.DIGEST} AS _migrate_digest \\gset\n"
        f"SELECT :_migrate_digest = ({expected.digest}) AS _migrate_same \\gset\n"
        f"\\if :_migrate_same\n\\else\n\\echo {token} STALE\n\\q\n\\endif\n"
    )
    if single:
        yield "BEGIN;\n"
    yield f"{_prepare(token, undo=steps[0].undo)}\\echo {token} START\n"
    for number, step in enumerate(steps, start=1):
        yield from (
            _in_transaction(step, token=token, flush=number == len(steps), single=single)
            if step.directives.transaction
            else _statement_by_statement(step, token=token)
        )
        # Nothing of one file's session is left to the next: settings, temporary tables (and see `_include`).
        yield f"RESET ALL \\; DISCARD TEMP \\; UNLISTEN *;\n\\echo {token} DONE {step.version} :_migrate_ms\n"
    if single:
        yield "COMMIT;\n"
    yield f"\\echo {token} END\n"


def _prepare(token: str, *, undo: bool) -> str:
    """Prepare what records a file unless the guard finds a fault: parsed once, for it takes longer than to do it."""
    if undo:
        change = f"DELETE FROM {history.TABLE} USING guard WHERE fault = '' AND version = $4 RETURNING {_elapsed('$2')}"
    else:
        change = (
            f"INSERT INTO {history.TABLE} (version, name, checksum, sql, down_sql, status, duration_ms)\n"
            f"SELECT $4, $5, $6, $7, $8, 'applied', {_elapsed('$2')} FROM guard WHERE fault = '' RETURNING duration_ms"
        )
    fault = _fault("pg_catalog.pg_current_xact_id_if_assigned() = $1", digest="$3", version="$4")
    return (
        f"PREPARE {_prepared(token)} (pg_catalog.xid8, timestamptz, bigint{', text' * (1 if undo else 5)}) AS\n"
        f"WITH guard AS ({fault}),\n"
        f"change (ms, digest) AS ({change}, $3 # {history.ROW_HASH})\n"
        "SELECT fault = '' AS _migrate_good, fault AS _migrate_fault, ms AS _migrate_ms, digest AS _migrate_digest\n"
        "  FROM guard LEFT JOIN change ON true;\n"
    )


def _prepared(token: str) -> str:
    return f"migrate_{token}"  # no file can know it, and so none has one of the same name


def _in_transaction(step: Migration, *, token: str, flush: bool, single: bool) -> Iterator[str]:
    r"""One file, its history row with it. Only the last commit of a run waits for the disk, and flushes the others.

    What can go to the server together does (`\;`): each journey there costs as much as a small statement.
    """
    begin = [] if single else ["BEGIN"]
    if step.directives.lock_timeout:
        begin.append(f"SET LOCAL lock_timeout = '{step.directives.lock_timeout}'")
    if not flush and not single:
        begin.append("SET LOCAL synchronous_commit = off")
    begin.append(
        "SELECT pg_catalog.pg_current_xact_id() AS _migrate_xact, pg_catalog.clock_timestamp() AS _migrate_start \\gset"
    )
    yield " \\; ".join(begin) + "\n"
    yield _include(step, token)
    values = f"'{step.version}'" if step.undo else _values(step)
    yield f"EXECUTE {_prepared(token)} (:'_migrate_xact', :'_migrate_start', :_migrate_digest, {values}) \\gset\n"
    yield _stop_at_fault(token)
    if not single:
        yield "COMMIT \\;\n"


def _statement_by_statement(step: Migration, *, token: str) -> Iterator[str]:
    """One file whose statements cannot be rolled back together: recorded as running before, as done after."""
    if step.undo:
        yield f"UPDATE {history.TABLE} SET status = 'running' WHERE version = '{step.version}';\n"
    else:
        yield (
            f"INSERT INTO {history.TABLE} (version, name, checksum, sql, down_sql, status)\n"
            f"VALUES ({_values(step)}, 'running')\n"
            f"ON CONFLICT (version) DO UPDATE SET status = 'running', applied_at = pg_catalog.clock_timestamp();\n"
        )
    yield f"SELECT {history.DIGEST} AS _migrate_digest, pg_catalog.clock_timestamp() AS _migrate_start \\gset\n"
    if step.directives.lock_timeout:
        yield f"SET lock_timeout = '{step.directives.lock_timeout}';\n"
    yield _include(step, token)
    kept, version = "pg_catalog.pg_current_xact_id_if_assigned() IS NULL", f"'{step.version}'"
    fault = _fault(kept, digest="(:_migrate_digest)", version=version)
    yield f"SELECT fault = '' AS _migrate_good, fault AS _migrate_fault FROM ({fault}) AS guard \\gset\n"
    yield _stop_at_fault(token)
    elapsed = _elapsed(":'_migrate_start'::timestamptz")
    if step.undo:
        done = f"DELETE FROM {history.TABLE} WHERE version = {version} RETURNING {elapsed}"
    else:
        done = (
            f"UPDATE {history.TABLE} SET status = 'applied', duration_ms = {elapsed}\n"
            f"WHERE version = {version} RETURNING duration_ms"
        )
    yield f"{done} AS _migrate_ms \\gset\nSELECT {history.DIGEST} AS _migrate_digest \\gset\n"


def _include(step: Migration, token: str) -> str:
    r"""Run a file. Whatever role, encoding and prepared statements it leaves are not what its history is written with.

    What follows goes to the server together with what brings them back (`\;`). It is read before that takes effect, but
    it is ASCII, which all encodings read alike.
    """
    clean = step.text.sql is not None and not PREPARES.search(step.text.sql)
    return (
        f"\\ir {staged_name(step)}\n\\unrestrict {token}\n"
        "RESET SESSION AUTHORIZATION \\; RESET ROLE \\; RESET client_encoding \\;\n"
        + ("" if clean else f"DEALLOCATE ALL \\;\n{_prepare(token, undo=step.undo)}")
    )


def _fault(transaction_kept: str, *, digest: str, version: str) -> str:
    return (
        f"SELECT CASE WHEN NOT coalesce({transaction_kept}, false) THEN 'ENDED ' || {version}\n"
        f"            WHEN {history.DIGEST} <> {digest} THEN 'MEDDLED ' || {version}\n"
        f"            WHEN NOT {TRY_LOCK} THEN 'BUSY'\n"  # again, in case the file has let it go
        "            ELSE '' END AS fault"
    )


def _stop_at_fault(token: str) -> str:
    return f"\\if :_migrate_good\n\\else\n\\echo {token} :_migrate_fault\n\\q\n\\endif\n"


def _values(step: Migration) -> str:
    texts = (step.version, step.name, step.text.checksum, step.text.sql, step.down.sql if step.down else None)
    return ", ".join("NULL" if text is None else _quoted(text) for text in texts)


def _quoted(text: str) -> str:
    """Quote so that neither psql's variables nor a setting nor an encoding change it.

    JSON's escapes are those of PostgreSQL's escape strings, too (its manual, 4.1.2.2), and leave nothing but ASCII.
    """
    return "E'" + json.dumps(text)[1:-1].replace("'", "''") + "'"


def _elapsed(start: str) -> str:
    return f"(extract(epoch FROM pg_catalog.clock_timestamp() - {start}) * 1000)::integer"


class Message(NamedTuple):
    """One message of psql or of the server.

    Attributes:
        version: of the migration it came from; empty when it was the driver.
        end: the line of the file at which the statement ended.
        severity: `ERROR`, `NOTICE`, ... in the server's language; `error` for psql's own.
        sqlstate: the server's code; empty for psql's own.
        text: the message.
        line: the line within the statement that the server points at; 0 when it points nowhere.
        excerpt: that line, and the caret line below it.
        detail: the server's DETAIL.
        hint: the server's HINT.
        context: the server's CONTEXT.
        statement: the failed statement.

    """

    version: str
    end: int
    severity: str
    sqlstate: str
    text: str
    line: int = 0
    excerpt: tuple[str, ...] = ()
    detail: str = ""
    hint: str = ""
    context: str = ""
    statement: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it says that something failed.

        The code alone does not tell: `CREATE TABLE IF NOT EXISTS` gives a NOTICE 42P07, a BEGIN too many a WARNING
        25001, and the severity is in the server's language. psql echoes the statement after an error only; what ends
        the session (FATAL) has no statement, but one of these codes.
        """
        return not self.sqlstate or bool(self.statement) or self.sqlstate.startswith(ENDS_SESSION)


class Marker(NamedTuple):
    """A line of our driver: `START`, `DONE 001 12`, `BUSY`, ..."""

    word: str
    rest: tuple[str, ...]


@dataclass(slots=True)
class Reader:
    """Turns psql's lines into Markers, Messages and plain output (str).

    Attributes:
        token: marks the driver's lines on standard output.

    """

    token: str
    _message: list[str] = field(default_factory=list)

    def feed(self, stream: str, line: str) -> Iterator[Marker | Message | str]:
        """Take one line; yield what it completes."""
        if stream == "stdout":
            if line.startswith(f"{self.token} "):
                word, *rest = line.split(" ")[1:]
                yield Marker(word, tuple(rest))
            else:
                yield line
        elif SHOWN_HEAD.fullmatch(line) and not (self._message and ": STATEMENT:  " in line):
            yield from self.flush()
            self._message = [line]
        else:
            self._message.append(line)

    def flush(self) -> Iterator[Message]:
        """Yield the message that was being read: nothing more will come, or not soon."""
        if self._message:
            message = parse(self._message)
            self._message = []
            yield message


def parse(lines: Sequence[str]) -> Message:
    """Read one message: its head, the parts that follow, and the statement that psql echoes after an error."""
    head = SHOWN_HEAD.fullmatch(lines[0])
    file, end, rest = (head["file"], int(head["line"]), head["rest"]) if head else ("", 0, lines[0])
    said = SERVER_SAID.fullmatch(rest)
    parts = {"text": [said["text"] if said else rest.removeprefix("error: ")]}
    excerpt: list[str] = []
    line, current = 0, "text"
    for text in lines[1:]:
        if (named := SHOWN_HEAD.fullmatch(text)) and named["rest"].startswith("STATEMENT:  "):
            current = "STATEMENT"
            parts[current] = [named["rest"].removeprefix("STATEMENT:  ")]
        elif current != "STATEMENT" and (pointed := EXCERPT.match(text)) and not excerpt:
            line, current = int(pointed["number"]), "excerpt"
            excerpt.append(text[pointed.end() :])
        elif current == "excerpt" and len(excerpt) == 1 and text.strip() == "^":
            excerpt.append(text[len(f"LINE {line}: ") :])
        elif current != "STATEMENT" and (part := PART.fullmatch(text)):
            current = part["part"]
            parts[current] = [part["text"]]
        elif current != "excerpt":
            parts[current].append(text)
    if "QUERY" in parts:  # the excerpt is of a statement inside a function, not of the file
        line = 0
    version = re.search(r"(?:^|[/\\])(\d+)\.sql$", file)
    joined = {name: "\n".join(text).strip("\n") for name, text in parts.items()}
    return Message(
        version=version[1] if version else "",
        end=max(end - 1, 0) if version else end,  # the fence is the first line
        severity=said["severity"] if said else "error",
        sqlstate=said["sqlstate"] if said else "",
        text=joined["text"],
        line=line,
        excerpt=tuple(excerpt),
        detail=joined.get("DETAIL", ""),
        hint=joined.get("HINT", ""),
        context=joined.get("CONTEXT", ""),
        statement=joined.get("STATEMENT", ""),
    )


def locate(message: Message, sql: str | None) -> int:
    """Return the line of the file that an error is about: where the server points, else where the statement begins.

    psql names the line at which the statement ended, and leaves empty lines out of it unless they are quoted. So
    only lines that say something are compared, and only they are counted. For a file whose text is not kept, or
    whose text differs (a variable), it is counted back.
    """
    said = message.statement.split("\n")
    pointed = len([text for text in said[: max(message.line - 1, 0)] if text.strip()])
    wanted = _solid(message.statement)
    if wanted and sql is not None:
        written = [(number, text) for number, text in enumerate(sql.split("\n")[: message.end], 1) if text.strip()]
        before = "\n".join(text for _, text in written)
        at = before.rfind(wanted)
        if at >= 0:
            return written[before.count("\n", 0, at) + pointed][0]
    return message.end - message.statement.count("\n") + max(message.line - 1, 0)


def first_line(statement: str, sql: str | None, *, after: int = 0) -> int | None:
    """Return the line at which a statement, or the beginning of one, begins.

    Args:
        statement: as the server has it, without empty lines.
        sql: the file's text.
        after: a line before it, such as that of an earlier statement of the same words.

    """
    written = [(number, text) for number, text in enumerate((sql or "").split("\n"), 1) if text.strip()]
    rest = [(number, text) for number, text in written if number > after]
    text = "\n".join(text for _, text in rest)
    for found in re.finditer(re.escape(_solid(statement)), text):
        if "--" not in text[text.rfind("\n", 0, found.start()) + 1 : found.start()]:  # a comment may have the words
            return rest[text.count("\n", 0, found.start())][0]
    return None


def _solid(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if line.strip())
