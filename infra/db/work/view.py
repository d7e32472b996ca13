"""What there is to look at: the database by psql, its tables, the server's log, the URL, the written description."""

from __future__ import annotations

import difflib
import itertools
import re
import urllib.parse
from typing import TYPE_CHECKING

from infra.db import docs, errors, psql, relations
from infra.db.servers import process

if TYPE_CHECKING:
    from infra.db.session import Session

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a tab may stay
LONGEST_DIFF = 20  # lines of stale documentation that are shown


def shell(session: Session, command: str) -> int:
    """Hand over to psql: what is typed, piped in, or one command; its exit code."""
    session.running().close()  # the right server answers, or our own words say why not
    at_terminal = session.console.at_terminal
    return session.server.foreground("psql", psql.shell(command, at_terminal=at_terminal), at_terminal=at_terminal)


def logs(session: Session, *, follow: bool, tail: str) -> int:
    """Write the server's log; 130 when it was followed until Ctrl-C, the usual way to end that."""
    if tail and not tail.isdecimal():
        raise errors.NotACount("--tail", tail)
    log = session.server.logs(tail=int(tail) if tail else None, follow=follow)
    try:
        session.console.lines(_readable(item[1], session.settings.password) for item in process.lines(log) if item)
    except KeyboardInterrupt:
        if not follow:
            raise
        return errors.Cancelled.exit_code
    return 0


def _readable(line: str, secret: str) -> str:
    """Take out the password, and what would not be text on a terminal."""
    if secret not in ("", "postgres"):  # the documented default is no secret, and is also the name of the program
        line = line.replace(secret.replace("'", "''"), "********").replace(secret, "********")
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", line)


def tables(session: Session, *, as_json: bool) -> None:
    """Show the tables."""
    found = relations.tables(session.running())
    if as_json:
        session.console.object({"database": session.settings.name, "tables": found})
    elif found:
        _list(session, r"\dt+")
    else:
        session.console.done(f"There are no tables in {session.where}.", ("invoke migrate", "make them"))


def describe(session: Session, name: str, *, as_json: bool) -> None:
    """Show one table."""
    connected = session.running()
    relation = relations.find(name, relations.read(connected))
    values = relations.description(connected, relation)
    if as_json:
        session.console.object(values)
    else:
        _list(session, psql.describe(relation.schema, relation.name))


def _list(session: Session, command: str) -> None:
    running = session.server.execute("psql", psql.listing(command, width=session.console.width))
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for stream, line in filter(None, process.lines(running)):
        said[stream].append(line)
    if running.wait():
        raise errors.ListingFailed("\n".join(said["stderr"]))
    session.console.lines(said["stdout"])


def url(session: Session, *, show_password: bool) -> str:
    """Return the connection URL."""
    settings, address, quote = session.settings, session.server.address(), urllib.parse.quote
    password = quote(settings.password, safe="") if show_password else "***"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    user, name = quote(settings.user, safe=""), quote(settings.name, safe="")
    return f"postgresql://{user}:{password}@{host}:{address.port if address else settings.port}/{name}"


def document(session: Session, *, check: bool) -> str:
    """Write the descriptions of the live schema into the README of the migrations, or compare; its name."""
    file = session.settings.migrations_dir / "README.md"
    shown = session.settings.shown(file)
    if not file.is_file():
        raise errors.NoReadme(shown)
    old = file.read_text(encoding="utf-8")
    new = docs.replace(old, docs.describe(session.running().connection), file=shown)
    if check and new != old:
        changed = difflib.unified_diff(old.split("\n"), new.split("\n"), "written", "live", n=0, lineterm="")
        raise errors.DocsStale(shown, "\n".join(f"  {line}" for line in itertools.islice(changed, LONGEST_DIFF)))
    if new != old:
        file.write_text(new, encoding="utf-8", newline="\n")
    return shown
