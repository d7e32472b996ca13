"""What a down script says it takes away."""

from __future__ import annotations

import pytest

from infra.db import losses
from infra.db.losses import Loss


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DROP TABLE faces;", [Loss("drops table", "faces")]),
        ("drop table if exists a, b.c cascade;", [Loss("drops table", "a"), Loss("drops table", "b.c")]),
        (
            'DROP TABLE "Odd ""name""", app . "x";',
            [Loss("drops table", '"Odd ""name"""'), Loss("drops table", 'app . "x"')],
        ),
        ("DROP SCHEMA app CASCADE;", [Loss("drops schema", "app")]),
        ("TRUNCATE a, b;\nDELETE FROM ONLY c;", [Loss("empties", "a"), Loss("empties", "b"), Loss("empties", "c")]),
        ("DELETE FROM a WHERE id = 1; DELETE FROM b", [Loss("deletes from", "a"), Loss("empties", "b")]),
        (
            "ALTER TABLE t DROP COLUMN a, DROP IF EXISTS b;",
            [Loss("drops column", "t", "a"), Loss("drops column", "t", "b")],
        ),
        ("ALTER TABLE t DROP CONSTRAINT k, ALTER COLUMN a DROP NOT NULL, ALTER b DROP DEFAULT;", []),
        ("-- DROP TABLE a\n/* DROP TABLE b */ SELECT 'DROP TABLE c', $$DROP TABLE d$$, $x$DROP TABLE e$x$;", []),
        ("DROP INDEX i; DROP VIEW v; DROP FUNCTION f();", []),
    ],
)
def test_only_what_takes_rows_away_is_read(sql: str, found: list[Loss]) -> None:
    assert list(losses.read(sql)) == found
