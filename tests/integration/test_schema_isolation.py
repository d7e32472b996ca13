"""As one tenant, nothing of another can be read, counted, guessed, written, moved or attached."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.schema_fixtures import (
    UNIT,
    A,
    B,
    Who,
    a,
    admin,
    fails,
    nobody_in_particular,
    owner,
    reader,
    superuser,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.schema_fixtures import Schema

REFUSED = "42501"  # insufficient_privilege, which a violated policy is too
NO_SUCH_ROW = "23503"  # foreign_key_violation


def tenant_column(table: str) -> str:
    return "id" if table == "tenants" else "tenant_id"


def check_reading(schema: Schema) -> None:
    for table in schema.tables():
        mine = f"count(*) > 0, count(*) FILTER (WHERE {tenant_column(table)} <> '{A}')"
        assert schema.rows(a, f"SELECT {mine} FROM {table}") == [(True, 0)], table
        assert schema.rows(reader, f"SELECT {mine} FROM {table}") == [(True, 0)], table


def check_no_tenant(schema: Schema) -> None:
    for table in schema.tables():
        assert schema.one(nobody_in_particular, f"SELECT count(*) FROM {table}") == 0, table


def check_pool(schema: Schema) -> None:
    """However a transaction ends, whoever gets the connection next sees nothing of its tenant."""
    endings = ("COMMIT", "ROLLBACK", "SELECT 1 / 0", "SAVEPOINT s; RELEASE s; COMMIT")
    with schema.connect(a, autocommit=True) as pooled:
        for ending in endings:
            pooled.execute(f"BEGIN; SET LOCAL app.tenant_id = '{A}'")
            assert pooled.execute("SELECT count(*) FROM content").fetchone() == (1,)
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                pooled.execute(ending)
            pooled.rollback()
            for table in schema.tables():
                assert pooled.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), (ending, table)


def check_writing(schema: Schema) -> None:
    for table in schema.tables():
        tenant = tenant_column(table)
        foreign = f"{tenant} = '{B}'"
        assert schema.refusal(a, f"INSERT INTO {table} ({tenant}) VALUES ('{B}')") == REFUSED, table
        assert schema.refusal(a, f"UPDATE {table} SET {tenant} = '{B}'") == REFUSED, table
        for column in updatable(schema, table):
            assert schema.do(a, f"UPDATE {table} SET {column} = {column} WHERE {foreign}") == 0, (table, column)
        if table not in {"tenants", "event_audit"}:
            assert schema.do(a, f"DELETE FROM {table} WHERE {foreign}") == 0, table


def updatable(schema: Schema, table: str) -> list[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    may = " AND has_column_privilege('mordeaux_app', attrelid, attnum, 'UPDATE')"
    return [name for (name,) in schema.rows(superuser, query + may, table)]


CROSS_TENANT = {  # one for each composite foreign key
    "content": "INSERT INTO content (source_id, s3_key_raw) VALUES (%s, 'x')",
    "faces": "INSERT INTO faces (content_id, face_index, bbox_x, bbox_y, bbox_width, bbox_height) "
    "VALUES (%s, 7, 0, 0, 1, 1)",
    "embeddings": "INSERT INTO embeddings (face_id, model_name, model_version, embedding) "
    f"VALUES (%s, 'm', '1', {UNIT})",
    "cluster_members": f"INSERT INTO cluster_members (cluster_id, face_id, similarity_score) VALUES ('{A}', %s, 1)",
    "cluster_members of a cluster": "INSERT INTO cluster_members (cluster_id, face_id, similarity_score) "
    f"VALUES (%s, '{A}', 1)",
}


def check_attaching(schema: Schema) -> None:
    """A reference to another tenant's row is refused in the same words as one to a row that is nowhere."""
    for name, statement in CROSS_TENANT.items():
        told = []
        for reference in (B, str(uuid.uuid4())):
            with pytest.raises(psycopg.errors.ForeignKeyViolation) as refused:
                schema.do(a, statement, reference)
            told.append(str(refused.value).replace(reference, "ID"))
        assert told[0] == told[1], f"{name}: the refusal tells whether another tenant has the row"


def check_moving(schema: Schema) -> None:
    assert schema.refusal(a, "UPDATE faces SET content_id = %s", B) == NO_SUCH_ROW
    assert schema.refusal(superuser, f"UPDATE faces SET tenant_id = '{B}' WHERE tenant_id = '{A}'") == NO_SUCH_ROW
    assert schema.refusal(superuser, f"UPDATE faces SET content_id = '{B}' WHERE tenant_id = '{A}'") == NO_SUCH_ROW


def check_moving_when_it_is_granted(schema: Schema) -> None:
    """The wall does not rest on grants alone."""
    for table in schema.tables():
        schema.do(superuser, f"GRANT UPDATE ({tenant_column(table)}) ON {table} TO mordeaux_app")
        assert schema.refusal(a, f"UPDATE {table} SET {tenant_column(table)} = '{B}'") == REFUSED, table


def check_taking_what_another_has(schema: Schema) -> None:
    """Whatever another tenant has (ids, names, numbers), a tenant may have as well, and so learns nothing."""
    columns = """SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = %s::regclass
        AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'tenant_id'"""
    for table in sorted(set(schema.tables()) - {"tenants"}):
        names = schema.one(superuser, columns, table)
        theirs = schema.one(superuser, f"SELECT count(*) FROM {table} WHERE tenant_id = '{B}'")
        with schema.transaction(superuser) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, foreign keys included
            connection.execute(f"DELETE FROM {table} WHERE tenant_id = '{A}'")
            taken = connection.execute(
                f"INSERT INTO {table} (tenant_id, {names}) SELECT '{A}', {names} FROM {table} WHERE tenant_id = '{B}'"
            )
        assert taken.rowcount == theirs > 0, table


def check_leaky_function(schema: Schema) -> None:
    schema.do(
        superuser,
        """CREATE FUNCTION leak(tenant uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
        $$ BEGIN RAISE NOTICE '%', tenant; RETURN true; END $$""",
    )
    heard: list[str] = []
    with schema.transaction(a) as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
        connection.execute("SELECT FROM content WHERE leak(tenant_id)")
    assert heard == [A]


def check_owner(schema: Schema) -> None:
    for table in schema.tables():
        assert schema.one(owner, f"SELECT count(*) FROM {table}") == 0, table


@pytest.mark.parametrize(
    "check",
    [
        check_reading,
        check_no_tenant,
        check_pool,
        check_writing,
        check_attaching,
        check_moving,
        check_moving_when_it_is_granted,
        check_taking_what_another_has,
        check_leaky_function,
    ],
)
def test_the_wall_holds_for(check: Callable[[Schema], None], schema: Schema) -> None:
    check(schema)


def test_the_owner_sees_no_rows_because_row_security_is_forced(owned: Schema) -> None:
    check_owner(owned)


def test_writing_without_a_tenant_is_refused(schema: Schema) -> None:
    assert schema.refusal(nobody_in_particular, "INSERT INTO sources (name, type) VALUES ('x', 'api')") == REFUSED
    assert schema.do(nobody_in_particular, "DELETE FROM faces") == 0


def test_a_tenant_that_is_no_uuid_is_an_error_and_not_an_empty_answer(schema: Schema) -> None:
    assert schema.refusal(Who("app", "not-a-uuid"), "SELECT count(*) FROM content") == "22P02"


def test_attaching_is_tried_by_every_foreign_key_between_tables_of_tenants(schema: Schema) -> None:
    count = schema.one(superuser, """SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
        AND connamespace = 'public'::regnamespace AND confrelid <> 'tenants'::regclass""")  # fmt: skip
    assert len(CROSS_TENANT) == count, "a new foreign key needs a case in CROSS_TENANT"


def test_an_id_that_another_tenant_has_is_free_to_use(schema: Schema) -> None:
    """Otherwise a unique violation would tell that it is there. The same for names, external ids and face numbers."""
    assert schema.do(a, "INSERT INTO sources (id, name, type) VALUES (%s, 'other', 'api')", B) == 1
    assert schema.do(a, "INSERT INTO clusters (id, algorithm) VALUES (%s, 'manual')", B) == 1
    assert schema.rows(superuser, "SELECT name, count(*) FROM policies GROUP BY name") == [("default", 2)]


def test_partitions_show_nothing_to_anybody_but_through_the_table(schema: Schema) -> None:
    partitions = schema.rows(
        superuser, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event_audit'::regclass"
    )
    assert len(partitions) >= 5
    for (partition,) in partitions:
        assert schema.refusal(a, f"SELECT FROM {partition}") == REFUSED
        assert schema.refusal(admin, f"SELECT FROM {partition}") == REFUSED


def test_nobody_sees_statistics_of_columns_behind_the_wall(schema: Schema) -> None:
    schema.do(superuser, "ANALYZE content")
    assert schema.one(a, "SELECT count(*) FROM pg_stats WHERE tablename = 'content'") == 0


def test_a_reader_writes_nothing(schema: Schema) -> None:
    for table in schema.tables():
        column = "name" if table == "tenants" else "created_at"
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
        ):
            assert schema.refusal(reader, statement) == REFUSED, statement


def test_the_platform_sees_every_tenant_and_a_tenant_makes_no_other(schema: Schema) -> None:
    assert schema.one(admin, "SELECT count(*) FROM tenants") == 2
    assert schema.one(admin, "SELECT count(DISTINCT tenant_id) FROM content") == 2
    assert schema.refusal(a, "INSERT INTO tenants (name, slug) VALUES ('c', 'c')") == REFUSED
    assert schema.refusal(a, "UPDATE tenants SET slug = 'b'") == REFUSED


def test_a_member_of_both_roles_is_still_behind_the_wall(owned: Schema) -> None:
    with owned.connect() as connection:
        connection.execute(f"GRANT mordeaux_admin TO app_{owned.suffix}")
        connection.commit()
    try:
        check_reading(owned)
    finally:
        owned.do(superuser, f"REVOKE mordeaux_admin FROM app_{owned.suffix}")


def test_the_platform_can_remove_a_tenant_and_its_events_stay(schema: Schema) -> None:
    for table in ("alerts", "policies", "clusters", "content", "sources"):
        schema.do(admin, f"DELETE FROM {table} WHERE tenant_id = '{A}'")
    assert schema.do(admin, f"DELETE FROM tenants WHERE id = '{A}'") == 1
    for table in set(schema.tables()) - {"event_audit"}:
        left = f"SELECT DISTINCT {tenant_column(table)}::text FROM {table}"
        assert schema.rows(superuser, left) == [(B,)], table
    assert schema.one(admin, f"SELECT count(*) FROM event_audit WHERE tenant_id = '{A}'") > 5


FAULTS: list[tuple[Callable[[Schema], None], str]] = [
    (check_reading, "DROP POLICY tenant_isolation ON faces"),
    (check_reading, "ALTER TABLE alerts DISABLE ROW LEVEL SECURITY"),
    (check_reading, "CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE "
     "RETURN NULL::uuid"),
    (check_reading, "CREATE TABLE forgotten (tenant_id uuid); GRANT SELECT ON forgotten TO PUBLIC"),
    (check_no_tenant, "ALTER POLICY tenant_isolation ON faces USING "
     "(tenant_id = app.current_tenant_id() OR app.current_tenant_id() IS NULL)"),
    (check_pool, "CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE "
     "RETURN current_setting('app.tenant_id', true)::uuid"),
    (check_writing, "ALTER POLICY tenant_isolation ON faces WITH CHECK (true)"),
    (check_writing, "GRANT UPDATE (tenant_id) ON faces TO mordeaux_app; "
     "ALTER POLICY tenant_isolation ON faces WITH CHECK (tenant_id IS NOT NULL)"),
    (check_attaching, "ALTER TABLE faces DROP CONSTRAINT faces_content_fkey; CREATE UNIQUE INDEX one ON content (id); "
     "ALTER TABLE faces ADD FOREIGN KEY (content_id) REFERENCES content (id)"),
    (check_moving, "ALTER TABLE faces DROP CONSTRAINT faces_content_fkey"),
    (check_moving_when_it_is_granted, "ALTER POLICY tenant_isolation ON faces WITH CHECK (true)"),
    (check_taking_what_another_has, "CREATE UNIQUE INDEX ON clusters (id)"),
    (check_leaky_function, "DROP POLICY tenant_isolation ON content"),
    (check_owner, "ALTER TABLE faces NO FORCE ROW LEVEL SECURITY"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "fault"), FAULTS)
def test_a_hole_in_the_wall_is_noticed(check: Callable[[Schema], None], fault: str, owned: Schema) -> None:
    owned.do(superuser, fault)
    assert fails(check, owned)


def test_one_more_permissive_policy_opens_nothing(owned: Schema) -> None:
    owned.do(superuser, "CREATE POLICY generous ON faces USING (true)")
    check_reading(owned)
    check_writing(owned)
