"""Which tables a migration locks against others, and for how long, watched from another connection.

Two sources: a thread that asks for the locks of the migration's session again and again, which tells how long each was
held; and a trigger on the history of the throw-away database, which notes what is held just before the commit, so that
no lock is missed because it was held for a moment only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.db import catalogue, errors, history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.db.database import Database

# In the order of PostgreSQL's manual (13.3.1). ROW EXCLUSIVE, which every INSERT takes, and those before it are not
# watched: they hold up nobody who reads or writes rows.
MODES = {
    "ShareUpdateExclusiveLock": "SHARE UPDATE EXCLUSIVE",
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}
# From the weakest on; the last one stops readers, too.
STOPS_WRITING = ("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
SHORTEST, LONGEST = 0.01, 0.25  # seconds between two looks
SHARE = 100  # a look is taken after this part of the time that has gone by: the longer, the coarser

NOW = """
SELECT DISTINCT l.relation, l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE a.datname = current_database() AND a.application_name LIKE 'invoke migrate %%'
   AND l.locktype = 'relation' AND l.granted AND l.mode = ANY (%s)
"""
PREPARE = f"""
CREATE SCHEMA {catalogue.OWN_SCHEMA};
CREATE TABLE {catalogue.OWN_SCHEMA}.held (version text, relation oid, mode text);
CREATE FUNCTION {catalogue.OWN_SCHEMA}.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    INSERT INTO {catalogue.OWN_SCHEMA}.held
    SELECT NEW.version, relation, mode FROM pg_catalog.pg_locks
     WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND granted;
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT ON {history.TABLE} FOR EACH ROW EXECUTE FUNCTION {catalogue.OWN_SCHEMA}.note();
"""
HELD = f"SELECT relation, mode FROM {catalogue.OWN_SCHEMA}.held WHERE version = %s AND mode = ANY (%s)"


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that was held.

    Attributes:
        relation: the oid of the table (or of another relation).
        mode: as people write it: `ACCESS EXCLUSIVE`.
        seconds: for how long, at most.

    """

    relation: int
    mode: str
    seconds: float


class Watch:
    """The locks of one migration.

    Attributes:
        held: what was seen, after the watching has ended.

    """

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self.held: list[Held] = []
        self._since: dict[tuple[int, str], float] = {}  # what was held at the last look, and the look before it was
        self._longest: dict[tuple[int, str], float] = {}
        self._last = 0.0
        self._stop = threading.Event()

    def look(self, found: list[tuple[int, str]], now: float) -> None:
        """Take in one look: what is held at a moment (of `time.monotonic`)."""
        for key, begin in self._since.items():  # until this look, at most
            self._longest[key] = max(self._longest.get(key, 0.0), now - begin)
        self._since = {key: self._since.get(key, self._last) for key in found}
        self._last = now

    def finish(self, noted: list[tuple[int, str]], longest: float) -> None:
        """Add what was noted before the commit; what no look saw was held for no longer than between two of them."""
        times = dict.fromkeys(noted, longest) | self._longest
        self.held = [Held(relation, MODES[mode], seconds) for (relation, mode), seconds in sorted(times.items())]

    def run(self, database: Database) -> None:
        """Look until told to stop; a lost connection ends the watching, not the migration."""
        began = self._last = time.monotonic()
        with contextlib.suppress(errors.ServerError):
            while True:
                stopping = self._stop.is_set()
                self.look(database.rows(NOW, list(MODES)), time.monotonic())
                if stopping:
                    return
                self._stop.wait(pause(time.monotonic() - began))

    def stop(self) -> None:
        """Have it take one more look and end."""
        self._stop.set()


def pause(elapsed: float) -> float:
    """Return the seconds until the next look: often at first, for a share of the time that has gone by later."""
    return min(max(elapsed / SHARE, SHORTEST), LONGEST)


def prepare(database: Database) -> None:
    """Put the trigger into a throw-away database, on a history that is made where there is none."""
    database.do(f"SET client_min_messages = warning; {history.CREATE} RESET client_min_messages; {PREPARE}")


@contextlib.contextmanager
def watching(database: Database, version: str) -> Iterator[Watch]:
    """Watch the migration that runs meanwhile; its locks are in `held` afterwards."""
    watch = Watch()
    began = time.monotonic()
    with contextlib.closing(database.again()) as other:
        thread = threading.Thread(target=watch.run, args=(other,), daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            watch.stop()
            thread.join()
    watch.finish(database.rows(HELD, version, list(MODES)), pause(time.monotonic() - began))
