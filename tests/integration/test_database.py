"""The watching connection asks no more than it has to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.work import session_of

if TYPE_CHECKING:
    import pytest

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
