"""The watching connection asks no more than it has to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from infra.db import history
from tests.work import session_of

if TYPE_CHECKING:
    from infra.db.history import History
    from tests.project import Project


def test_what_the_server_is_is_asked_once_and_anew_only_of_a_new_connection(external: Project) -> None:
    with contextlib.closing(session_of(external)) as session:
        connected = session.running()
        facts = connected.facts()
        connected.revive()
        assert connected.facts() is facts
        external.do(f"SELECT pg_terminate_backend({connected.connection.info.backend_pid}, 5000)")
        connected.revive()
        assert connected.facts() is not facts
        assert connected.facts() == facts


@pytest.mark.parametrize("xid", [3, 4, 2**31 - 1, 2**31, 2**31 + 3, 2**32 - 1])
def test_a_transaction_has_the_same_number_in_the_digest_wherever_the_counter_stands(
    external: Project, xid: int
) -> None:
    number = history.XMIN.replace("xmin", f"'{xid}'::xid")
    with contextlib.closing(session_of(external)) as session:
        rows = session.running().rows
        assert rows(f"SELECT {number}") == [(xid - 3,)]
        external.do("SELECT pg_current_xact_id()")
        assert rows(f"SELECT {number}, pg_current_xact_id()")[0][0] == xid - 3


def test_the_digest_tells_a_row_from_the_same_row_written_again(external: Project) -> None:
    external.write("001_a.sql", "CREATE TABLE a (id int);")
    external.write("002_b.sql", "CREATE TABLE b (id int);")
    assert external.invoke("migrate").code == 0
    with contextlib.closing(session_of(external)) as session:
        read = session.running().history
        before = read()
        assert read().digest == before.digest
        external.do(
            "CREATE TEMP TABLE kept AS TABLE schema_migrations; TRUNCATE schema_migrations;"
            " INSERT INTO schema_migrations TABLE kept ORDER BY version"
        )  # where they were: only xmin differs
        after = read()
        assert after.rows == before.rows
        assert after.digest != before.digest


def test_a_run_with_nothing_to_do_reads_the_history_once_and_one_that_applies_reads_what_it_reports(
    external: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    external.write("001_a.sql", "CREATE TABLE a (id int);")
    with contextlib.closing(session_of(external)) as session:
        connected = session.running()
        reads: list[History] = []
        read = connected.history

        def history() -> History:
            reads.append(read())
            return reads[-1]

        monkeypatch.setattr(connected, "history", history)
        migrator = session.migrator()
        assert [row.version for row in migrator.migrate(connected)] == ["001"]
        assert [len(each.rows) for each in reads] == [0, 1]
        assert migrator.migrate(connected) == []
        assert [len(each.rows) for each in reads] == [0, 1, 1]
