"""Nothing that people change goes unrecorded, and nothing recorded is ever changed or lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.integration.schema_fixtures import A, B, a, admin, fails, nobody_in_particular, owner, superuser

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.schema_fixtures import Schema, Who

REFUSED = "42501"
WHO = {"user_id": "ann", "request_id": "r-1", "session_id": "s-1", "service": "gateway"}


def events(schema: Schema, event_type: str = "%") -> list[tuple[Any, ...]]:
    query = (
        "SELECT event_type, event_data FROM event_audit WHERE event_type LIKE %s AND tenant_id = %s ORDER BY id DESC"
    )
    return schema.rows(superuser, query, event_type, A)


def newest(schema: Schema) -> tuple[Any, ...]:
    return events(schema)[0]


def check_who(schema: Schema) -> None:
    schema.do(a, "UPDATE policies SET priority = 7", **WHO)
    schema.do(a, "INSERT INTO sources (name, type) VALUES ('new', 'api')", **WHO)
    columns = "event_type, user_id, request_id, session_id, source_service, db_user, event_category"
    assert schema.rows(superuser, f"SELECT {columns} FROM event_audit ORDER BY id DESC LIMIT 2") == [
        ("sources.insert", "ann", "r-1", "s-1", "gateway", f"app_{schema.suffix}", "data"),
        ("policies.update", "ann", "r-1", "s-1", "gateway", f"app_{schema.suffix}", "data"),
    ]


EDITS = [  # (as whom, statement, event type, old, new)
    (admin, "UPDATE tenants SET is_active = false", "tenants.update", {"is_active": True}, {"is_active": False}),
    (a, "UPDATE tenants SET description = 'd'", "tenants.update", {"description": None}, {"description": "d"}),
    (a, "UPDATE sources SET url = 'u', status = 'paused'", "sources.update", {"url": None, "status": "active"},
     {"url": "u", "status": "paused"}),
    (a, "UPDATE policies SET priority = 7", "policies.update", {"priority": 0}, {"priority": 7}),
    (a, """UPDATE policies SET rules = '[{"type": "allow", "x": null}]'""", "policies.update",
     {"rules": [{"type": "block"}]}, {"rules": [{"type": "allow", "x": None}]}),
    (a, "UPDATE alerts SET status = 'acknowledged'", "alerts.update", {"status": "open"}, {"status": "acknowledged"}),
    (a, "UPDATE content SET site = NULL", "content.update", {"site": "example.org"}, {"site": None}),
    (a, "UPDATE clusters SET name = 'Ann'", "clusters.update", {"name": "somebody"}, {"name": "Ann"}),
    (a, "UPDATE cluster_members SET confidence_score = 0.5", "cluster_members.update", {"confidence_score": None},
     {"confidence_score": 0.5}),
]  # fmt: skip


def check_changed_fields(schema: Schema) -> None:
    for who, statement, event_type, old, new in EDITS:
        schema.do(who, f"{statement} WHERE id = '{A}'", **WHO)
        assert newest(schema) == (event_type, {"id": A, "old": old, "new": new}), statement
    check_all_by(schema, {event_type for _, _, event_type, _, _ in EDITS})


def check_all_by(schema: Schema, event_types: set[str]) -> None:
    """These are all the events of that request, and each says who."""
    columns = "event_type, user_id, session_id, source_service, db_user ~ '^(app|admin)_'"
    found = schema.rows(superuser, f"SELECT DISTINCT {columns} FROM event_audit WHERE request_id = 'r-1'")
    assert set(found) == {(each, "ann", "s-1", "gateway", True) for each in event_types}


def check_whole_rows(schema: Schema) -> None:
    for table in ("sources", "policies", "cluster_members", "tenants"):
        ((_, event),) = events(schema, f"{table}.insert")
        row = schema.one(superuser, f"SELECT to_jsonb(t) FROM {table} t WHERE id = %s", A)
        assert event == {"id": A, "new": row}, table
    for table in ("cluster_members", "alerts", "policies"):
        row = schema.one(superuser, f"SELECT to_jsonb(t) FROM {table} t WHERE id = %s", A)
        schema.do(a, f"DELETE FROM {table}", **WHO)
        assert newest(schema) == (f"{table}.delete", {"id": A, "old": row})
    check_all_by(schema, {"cluster_members.delete", "alerts.delete", "policies.delete"})


def check_bulk(schema: Schema) -> None:
    schema.do(a, f"INSERT INTO content (id, source_id, s3_key_raw) VALUES ('{B}', '{A}', 'x')", **WHO)
    assert newest(schema) == ("content.insert", {"count": 1, "ids": [B]})
    schema.do(a, f"INSERT INTO alerts (id, alert_type, severity, title) VALUES ('{B}', 'match', 'low', 't')", **WHO)
    assert newest(schema) == ("alerts.insert", {"count": 1, "ids": [B]})
    schema.do(a, f"INSERT INTO clusters (id, algorithm) VALUES ('{B}', 'dbscan')", **WHO)
    assert newest(schema) == ("clusters.insert", {"count": 1, "ids": [B]})
    for table in ("embeddings", "faces", "clusters", "content"):
        schema.do(a, f"DELETE FROM {table} WHERE id = '{A}'", **WHO)
        assert events(schema, f"{table}.delete") == [(f"{table}.delete", {"count": 1, "ids": [A]})]
    deleted = {f"{table}.delete" for table in ("embeddings", "faces", "clusters", "content")}
    deleted.add("cluster_members.delete")  # by cascade from the face, and still of that request
    check_all_by(schema, deleted | {"content.insert", "alerts.insert", "clusters.insert"})


def check_append_only(schema: Schema) -> None:
    month = f"event_audit_{datetime.now(UTC):%Y%m}"
    for statement in ("UPDATE {} SET severity = 'debug'", "DELETE FROM {}", "TRUNCATE {}"):
        for table in ("event_audit", month):
            for who in (a, admin, superuser):
                assert schema.refusal(who, statement.format(table)) == REFUSED, (who, statement, table)
    assert schema.refusal(superuser, "TRUNCATE event_audit_default") == REFUSED


def check_said_by_the_database(schema: Schema) -> None:
    for column, value in (("created_at", "now()"), ("db_user", "'ann'"), ("id", "app.uuid_v7()")):
        insert = f"INSERT INTO event_audit (event_type, event_category, {column}) VALUES ('x', 'data', {value})"
        assert schema.refusal(a, insert) == REFUSED, column


def check_erasure(schema: Schema) -> None:
    assert schema.do(a, "DELETE FROM content") == 1
    for table in ("content", "faces", "embeddings", "cluster_members"):
        assert schema.rows(superuser, f"SELECT tenant_id::text FROM {table}") == [(B,)], table
    names = {name for name, _ in events(schema, "%.delete")}
    assert names == {"content.delete", "cluster_members.delete"}, "what went with the content is part of its event"


def check_months(schema: Schema) -> None:
    """The months ahead are there, and begin and end by UTC wherever the session is."""
    schema.do(superuser, "SET LOCAL timezone = 'America/Los_Angeles'; SELECT app.ensure_event_audit_partitions(5)")
    query = """SELECT inhrelid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'event_audit'::regclass"""
    bounds = dict(schema.rows(superuser, query))
    month = datetime.now(UTC).replace(day=1)
    for _ in range(6):
        following = (month + timedelta(days=31)).replace(day=1)
        start, end = f"{month:%Y-%m}-01 00:00:00+00", f"{following:%Y-%m}-01 00:00:00+00"
        assert bounds.pop(f"event_audit_{month:%Y%m}") == f"FOR VALUES FROM ('{start}') TO ('{end}')"
        month = following
    assert bounds == {"event_audit_default": "DEFAULT"}


CHECKS = [
    check_who, check_changed_fields, check_whole_rows, check_bulk, check_append_only, check_said_by_the_database,
    check_erasure, check_months,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_audit_trail_is_complete_in(check: Callable[[Schema], None], schema: Schema) -> None:
    check(schema)


def test_an_update_that_changes_nothing_leaves_no_event(schema: Schema) -> None:
    before = len(events(schema))
    schema.do(a, "UPDATE policies SET priority = priority")
    assert len(events(schema)) == before


def test_the_progress_that_workers_note_leaves_no_event(schema: Schema) -> None:
    before = len(events(schema))
    schema.do(a, "UPDATE content SET status = 'processing', processing_started_at = now()")
    schema.do(a, "UPDATE clusters SET size = 2, quality_score = 0.5")
    schema.do(a, "INSERT INTO clusters (id, algorithm) VALUES (%s, 'dbscan')", B)
    schema.do(a, "INSERT INTO cluster_members (cluster_id, face_id, similarity_score) VALUES (%s, %s, 1)", B, A)
    assert [name for name, _ in events(schema)][: len(events(schema)) - before] == ["clusters.insert"]


def test_a_bulk_statement_leaves_an_event_for_each_thousand_rows(schema: Schema) -> None:
    schema.do(a, f"INSERT INTO content (source_id, s3_key_raw) SELECT '{A}', 'x' FROM generate_series(1, 2500)")
    found = [event for _, event in events(schema, "content.insert")][:3]
    assert sorted(event["count"] for event in found) == [500, 1000, 1000]
    ids = {each for event in found for each in event["ids"]}
    assert ids == {str(each) for (each,) in schema.rows(a, "SELECT id FROM content WHERE s3_key_raw = 'x'")}


def test_a_statement_over_several_tenants_leaves_an_event_for_each(schema: Schema) -> None:
    schema.do(admin, "DELETE FROM content")
    query = "SELECT tenant_id::text FROM event_audit WHERE event_type = 'content.delete' ORDER BY 1"
    assert schema.rows(superuser, query) == [(A,), (B,)]


def test_an_erasure_gets_through_when_the_owner_is_no_superuser(owned: Schema) -> None:
    check_erasure(owned)


def test_the_owner_changes_no_event_either(owned: Schema) -> None:
    """Row security hides the rows; with it out of the way, the trigger stands, on the months as well."""
    month = f"event_audit_{datetime.now(UTC):%Y%m}"
    for table in ("event_audit", month):
        assert owned.do(owner, f"UPDATE {table} SET severity = 'debug'") == 0
        assert owned.do(owner, f"DELETE FROM {table}") == 0
        owned.do(owner, f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        for statement in ("UPDATE {} SET severity = 'debug'", "DELETE FROM {}", "TRUNCATE {}"):
            assert owned.refusal(owner, statement.format(table)) == REFUSED, (statement, table)


def test_updated_at_of_an_event_is_created_at(schema: Schema) -> None:
    assert schema.one(superuser, "SELECT bool_and(updated_at = created_at) FROM event_audit") is True


def test_an_event_needs_a_tenant(schema: Schema) -> None:
    insert = "INSERT INTO event_audit (event_type, event_category) VALUES ('x', 'data')"
    assert schema.refusal(superuser, insert) == "23502"
    assert schema.refusal(nobody_in_particular, insert) == REFUSED


def test_the_default_partition_is_empty_and_this_month_and_the_next_two_are_there(schema: Schema) -> None:
    assert schema.one(superuser, "SELECT count(*) FROM event_audit_default") == 0
    ahead = "to_char((now() AT TIME ZONE 'UTC') + make_interval(months => m), '\"event_audit_\"YYYYMM')"
    query = f"SELECT m FROM generate_series(0, 2) m WHERE to_regclass({ahead}) IS NULL"
    assert schema.rows(superuser, query) == []


def test_asking_again_for_months_that_are_there_makes_none(schema: Schema) -> None:
    assert schema.rows(superuser, "SELECT app.ensure_event_audit_partitions()") == []


@pytest.mark.parametrize("variant", ["18 superuser", "18 owner", "16 owner"])
def test_no_event_is_lost_when_its_month_is_missing_and_the_next_call_sorts_it_in(
    variant: str, templates: Callable[[str], Schema]
) -> None:
    schema = templates(variant).copy()
    who: Who = superuser if variant.endswith("superuser") else owner
    month = f"event_audit_{datetime.now(UTC):%Y%m}"
    schema.do(superuser, f"DROP TABLE {month}")
    schema.do(a, "INSERT INTO event_audit (event_type, event_category, ip_address, tags) VALUES "
                 "('late', 'search', '::1', '[1]')", **WHO)  # fmt: skip
    # Long ago, too: only the owner says when something happened.
    schema.do(who, "INSERT INTO event_audit (tenant_id, created_at, event_type, event_category) "
                   f"VALUES ('{A}', now() - interval '3 months', 'older', 'search')")  # fmt: skip
    before = schema.rows(superuser, "SELECT * FROM event_audit_default ORDER BY id")
    assert [row[4] for row in before] == ["late", "older"]
    made = [name for (name,) in schema.rows(who, "SELECT app.ensure_event_audit_partitions()")]
    assert month in made
    assert len(made) == 4, "the month of the older event, the two after it, and this one"
    assert schema.one(superuser, "SELECT count(*) FROM event_audit_default") == 0
    assert schema.rows(superuser, "SELECT * FROM event_audit WHERE event_category = 'search' ORDER BY id") == before
    assert schema.one(a, "SELECT count(*) FROM event_audit") == 2
    check_append_only(schema)
    schema.drop()


def with_old_months(schema: Schema, who: Who) -> list[str]:
    """Add the last three months, oldest first."""
    names = []
    last = datetime.now(UTC).replace(day=1)
    for _ in range(3):
        first = (last - timedelta(days=1)).replace(day=1)
        names.append(f"event_audit_{first:%Y%m}")
        bounds = f"FOR VALUES FROM ('{first:%Y-%m}-01 00:00:00+00') TO ('{last:%Y-%m}-01 00:00:00+00')"
        schema.rows(who, "SELECT app.add_event_audit_partition(%s, %s)", names[-1], bounds)
        last = first
    return names[::-1]


def test_retention_drops_exactly_the_months_that_ended_before_it(owned: Schema) -> None:
    oldest, second, newest_old = with_old_months(owned, owner)
    ended = datetime.strptime(second[-6:] + "+0000", "%Y%m%z")  # the oldest month ended when the second began
    keep = datetime.now(UTC) - ended
    just_not = f"{keep + timedelta(minutes=1)}"
    assert owned.rows(owner, "SELECT app.drop_event_audit_partitions(%s::interval)", just_not) == []
    assert owned.rows(owner, "SELECT app.drop_event_audit_partitions(%s::interval)", f"{keep}") == [(oldest,)]
    left = {name for (name,) in owned.rows(superuser, "SELECT relname FROM pg_class WHERE relispartition")}
    assert {second, newest_old, "event_audit_default"} < left


@pytest.mark.parametrize("keep", ["29 days", "0", None])
def test_a_retention_below_thirty_days_is_refused(keep: str | None, owned: Schema) -> None:
    call = "SELECT app.drop_event_audit_partitions(%s::interval)"
    with pytest.raises(psycopg.errors.InvalidParameterValue), owned.transaction(owner) as connection:
        connection.execute(call, (keep,))


def test_only_the_owner_drops_and_makes_months(schema: Schema) -> None:
    for call in ("drop_event_audit_partitions('400 days')", "ensure_event_audit_partitions()"):
        for who in (a, admin):
            assert schema.refusal(who, f"SELECT app.{call}") == REFUSED, call


def test_search_path_of_the_session_cannot_hijack_what_a_cascade_runs_as_the_owner(owned: Schema) -> None:
    owned.do(
        superuser,
        f"""
        CREATE SCHEMA evil AUTHORIZATION app_{owned.suffix};
        CREATE TABLE evil.ran_as (who text);
        GRANT INSERT ON evil.ran_as TO PUBLIC; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO evil.ran_as VALUES (current_user); RETURN 'x'; END $$;""",
    )
    owned.do(a, "SET LOCAL search_path = evil, pg_catalog, public; DELETE FROM content")
    assert owned.rows(superuser, "SELECT who FROM evil.ran_as") == []


FAULTS: list[tuple[Callable[[Schema], None], str]] = [
    (check_who, "DROP TRIGGER audit_row ON policies"),
    (check_who, "ALTER TABLE event_audit ALTER request_id DROP DEFAULT"),
    (check_changed_fields, "DROP TRIGGER audit_edit ON clusters"),
    (check_changed_fields, "ALTER TABLE content DISABLE TRIGGER audit_edit"),
    (check_whole_rows, "DROP TRIGGER audit_delete ON cluster_members"),
    (check_bulk, "DROP TRIGGER audit_delete ON faces"),
    (check_bulk, "DROP TRIGGER audit_insert ON content"),
    (check_append_only, "DROP TRIGGER forbid_change ON event_audit"),
    (check_append_only, "DROP TRIGGER forbid_truncate ON event_audit_default"),
    (check_append_only, "GRANT DELETE ON event_audit TO mordeaux_app; DROP TRIGGER forbid_change ON event_audit"),
    (check_said_by_the_database, "GRANT INSERT (created_at) ON event_audit TO mordeaux_app"),
    (check_erasure, "DROP POLICY owner_writes ON event_audit"),
    (check_erasure, "ALTER TABLE faces DROP CONSTRAINT faces_content_fkey, ADD CONSTRAINT faces_content_fkey "
     "FOREIGN KEY (tenant_id, content_id) REFERENCES content (tenant_id, id)"),
    (check_months, "ALTER FUNCTION app.ensure_event_audit_partitions(int) RESET timezone"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "fault"), FAULTS)
def test_a_gap_in_the_trail_is_noticed(check: Callable[[Schema], None], fault: str, owned: Schema) -> None:
    owned.do(superuser, fault)
    assert fails(check, owned)
