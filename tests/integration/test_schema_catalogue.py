"""What must hold for every table, read from the catalogue: a new table that breaks a rule is found by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.db import docs
from tests.integration.schema_fixtures import MIGRATIONS, TABLES, flat, superuser

if TYPE_CHECKING:
    import psycopg

    from tests.integration.schema_fixtures import Schema

EXPECTED = {
    "tenants", "sources", "content", "faces", "embeddings", "clusters", "cluster_members", "policies", "event_audit",
    "alerts",
}  # fmt: skip

# rule: a query for what breaks it; t are the tables (partitions belong to theirs), has_tenant all but tenants
RULES = {
    "the primary key is made of UUIDs, id among them, and of created_at where months are kept apart": """
        SELECT t.relname FROM t WHERE NOT EXISTS (
            SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p'
            AND EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = t.oid AND a.attnum = ANY (k.conkey) AND a.attname = 'id')
            AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (k.conkey)
                            AND a.attname <> 'created_at' AND a.atttypid <> 'uuid'::regtype))""",
    "id is made by app.uuid_v7()": """
        SELECT t.relname FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'id'
        LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
        WHERE coalesce(pg_get_expr(d.adbin, d.adrelid), '') <> 'app.uuid_v7()'""",
    "created_at and updated_at are there and fill themselves": """
        SELECT t.relname, w.name FROM t CROSS JOIN (VALUES ('created_at'), ('updated_at')) w (name)
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = w.name AND NOT a.attisdropped
        WHERE NOT coalesce(a.attnotnull AND a.atttypid = 'timestamptz'::regtype AND a.atthasdef, false)""",
    "updated_at is kept by the trigger touch_row, or is created_at where nothing is updated": """
        SELECT t.relname FROM t
        WHERE NOT EXISTS (SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
                          WHERE g.tgrelid = t.oid AND f.proname = 'touch_row' AND g.tgenabled = 'O' AND g.tgtype = 19)
        AND NOT EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = t.oid AND a.attname = 'updated_at' AND a.attgenerated = 's')""",
    "every row belongs to a tenant": """
        SELECT t.relname FROM t WHERE t.relname <> 'tenants' AND NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnotnull
            AND a.atttypid = 'uuid'::regtype)""",
    "there is a JSONB column for what nobody thought of": """
        SELECT t.relname FROM t WHERE NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.atttypid = 'jsonb'::regtype)""",
    "JSONB is never null, has a default and a check of its type": """
        SELECT t.relname, a.attname FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.atttypid = 'jsonb'::regtype
        WHERE NOT (a.attnotnull AND a.atthasdef AND EXISTS (
            SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
            AND pg_get_constraintdef(k.oid) LIKE '%jsonb_typeof%'))""",
    "row security is on and forced, on partitions too": """
        SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
        AND NOT (relrowsecurity AND relforcerowsecurity)""",
    "the wall is a restrictive policy for reading and writing, for both tenant roles": """
        SELECT t.relname FROM t WHERE NOT EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND NOT p.polpermissive AND p.polcmd = '*'
            AND pg_get_expr(p.polqual, t.oid) =
                format('(%s = app.current_tenant_id())', CASE WHEN t.has_tenant THEN 'tenant_id' ELSE 'id' END)
            AND pg_get_expr(p.polwithcheck, t.oid) = pg_get_expr(p.polqual, t.oid)
            AND p.polroles @> ARRAY['mordeaux_app'::regrole::oid, 'mordeaux_readonly'::regrole::oid])""",
    "no policy holds a subquery": """
        SELECT polrelid::regclass, polname FROM pg_policy
        WHERE concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) ~* 'select'""",
    "the tenant is in every primary key and unique index": """
        SELECT i.indexrelid::regclass FROM pg_index i JOIN t ON t.oid = i.indrelid AND t.has_tenant
        WHERE i.indisunique AND NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnum = ANY (i.indkey))""",
    "the tenant is in every foreign key, at the same place on both sides": """
        SELECT k.conrelid::regclass, k.conname FROM pg_constraint k JOIN t ON t.oid = k.conrelid AND t.has_tenant
        WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT EXISTS (
            SELECT FROM generate_subscripts(k.conkey, 1) i
            JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = k.conkey[i]
            JOIN pg_attribute y ON y.attrelid = k.confrelid AND y.attnum = k.confkey[i]
            WHERE x.attname = 'tenant_id'
            AND y.attname = CASE WHEN k.confrelid = 'tenants'::regclass THEN 'id' ELSE 'tenant_id' END)""",
    "no foreign key sets anything to null or follows an update": """
        SELECT conrelid::regclass, conname FROM pg_constraint
        WHERE contype = 'f' AND (confdeltype IN ('n', 'd') OR confupdtype <> 'a')""",
    "every foreign key has an index that begins with its columns": """
        SELECT k.conrelid::regclass, k.conname FROM pg_constraint k WHERE k.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL
            AND (SELECT array_agg(x ORDER BY x) FROM unnest(k.conkey) x)
                = (SELECT array_agg(y ORDER BY y) FROM unnest((i.indkey::int2[])[0:cardinality(k.conkey) - 1]) y))""",
    "no index is the beginning of another": """
        SELECT one.indexrelid::regclass, other.indexrelid::regclass FROM pg_index one
        JOIN pg_index other ON one.indrelid = other.indrelid AND one.indexrelid <> other.indexrelid
        JOIN pg_class c1 ON c1.oid = one.indexrelid JOIN pg_class c2 ON c2.oid = other.indexrelid
        WHERE c1.relam = c2.relam AND NOT one.indisunique AND one.indexprs IS NULL AND other.indexprs IS NULL
        AND one.indpred IS NULL AND other.indpred IS NULL
        AND (other.indkey::text || ' ') LIKE (one.indkey::text || ' %')""",
    "every index is valid": "SELECT indexrelid::regclass FROM pg_index WHERE NOT (indisvalid AND indisready)",
    "every constraint is validated": "SELECT conrelid::regclass, conname FROM pg_constraint WHERE NOT convalidated",
    "no index depends on the time of day": """
        SELECT indexrelid::regclass FROM pg_index
        WHERE concat(pg_get_expr(indpred, indrelid), pg_get_expr(indexprs, indrelid)) ~* '(now\\(|current_)'""",
    "no index of content holds what workers note": """
        SELECT i.indexrelid::regclass, a.attname FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey)
            OR pg_get_expr(i.indpred, i.indrelid) ~ ('\\m' || a.attname || '\\M'))
        WHERE i.indrelid = 'content'::regclass
        AND a.attname IN ('status', 'processing_started_at', 'processing_completed_at', 'error_message')""",
    "there are no enums": "SELECT typname FROM pg_type WHERE typtype = 'e' AND typnamespace = 'public'::regnamespace",
    "there are no sequences, which would count for everybody": """
        SELECT oid::regclass FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace""",
    "the roles of the application bypass nothing and own nothing": """
        SELECT rolname FROM pg_roles r WHERE rolname LIKE 'mordeaux%' AND (
            rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin
            OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid))""",
    "the roles of the application make nothing": """
        SELECT r.rolname, n.nspname FROM pg_roles r CROSS JOIN pg_namespace n
        WHERE r.rolname LIKE 'mordeaux%' AND n.nspname IN ('public', 'app')
        AND has_schema_privilege(r.oid, n.oid, 'CREATE')""",
    "nobody may truncate, reference or add triggers": """
        SELECT c.relname, x.grantee::regrole, x.privilege_type FROM pg_class c, aclexplode(c.relacl) x
        WHERE c.relnamespace = 'public'::regnamespace AND x.grantee <> c.relowner
        AND x.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')""",
    "nothing is granted on partitions, and nothing to everybody": """
        SELECT c.relname, x.grantee::regrole FROM pg_class c, aclexplode(c.relacl) x
        WHERE c.relnamespace = 'public'::regnamespace
        AND ((c.relispartition AND x.grantee <> c.relowner) OR x.grantee = 0)""",
    "only the columns that describe a row may be updated, and all of those": """
        SELECT t.relname, a.attname, r.rolname FROM t
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        CROSS JOIN (VALUES ('mordeaux_app'), ('mordeaux_admin'), ('mordeaux_readonly')) r (rolname)
        WHERE has_column_privilege(r.rolname, t.oid, a.attnum, 'UPDATE') <> (
            a.attname NOT IN ('id', 'tenant_id', 'created_at', 'updated_at') AND t.relname <> 'event_audit'
            AND r.rolname <> 'mordeaux_readonly'
            AND NOT (t.relname = 'tenants' AND a.attname IN ('slug', 'is_active') AND r.rolname = 'mordeaux_app'))""",
    "events may be added and read, never removed, and their time and role are the database's to say": """
        SELECT r.rolname, 'DELETE' FROM (VALUES ('mordeaux_app'), ('mordeaux_admin'), ('mordeaux_readonly')) r (rolname)
        WHERE has_table_privilege(r.rolname, 'event_audit', 'DELETE')
        UNION ALL
        SELECT r.rolname, a.attname FROM (VALUES ('mordeaux_app'), ('mordeaux_admin')) r (rolname)
        JOIN pg_attribute a ON a.attrelid = 'event_audit'::regclass AND a.attnum > 0
        WHERE has_column_privilege(r.rolname, a.attrelid, a.attnum, 'INSERT')
            = (a.attname IN ('id', 'created_at', 'updated_at', 'db_user'))""",
    "what comes, changes and goes is audited; of faces and vectors, which come with their content, what goes": """
        SELECT t.relname, e.name FROM t CROSS JOIN (VALUES ('insert', 4), ('delete', 8), ('update', 16)) e (name, bit)
        WHERE t.relname <> 'event_audit' AND NOT (t.relname IN ('faces', 'embeddings') AND e.name <> 'delete')
        AND NOT EXISTS (SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
                        WHERE g.tgrelid = t.oid AND f.proname IN ('audit_row', 'audit_statement')
                        AND g.tgenabled = 'O' AND g.tgtype & e.bit <> 0)""",
    "views run with the rights of whoever asks": """
        SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
        AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)""",
    "functions with their owner's rights pin the search_path": """
        SELECT oid::regprocedure FROM pg_proc WHERE prosecdef AND pronamespace = 'app'::regnamespace
        AND NOT coalesce(array_to_string(proconfig, ',') ~ 'search_path', false)""",
    "trigger functions that write pin the search_path, for cascades run them as the owner": """
        SELECT oid::regprocedure FROM pg_proc WHERE prorettype = 'trigger'::regtype
        AND pronamespace = 'app'::regnamespace AND prosrc ~* 'insert into'
        AND NOT coalesce(array_to_string(proconfig, ',') ~ 'search_path=pg_catalog', false)""",
    "the partitions are in nobody's hands but the owner's": """
        SELECT p.oid::regprocedure FROM pg_proc p CROSS JOIN pg_roles r
        WHERE p.pronamespace = 'app'::regnamespace AND p.proname LIKE '%event_audit_partition%'
        AND r.rolname LIKE 'mordeaux%' AND has_function_privilege(r.oid, p.oid, 'EXECUTE')""",
    "vectors are stored in the row": """
        SELECT a.attrelid::regclass, a.attname FROM t JOIN pg_attribute a ON a.attrelid = t.oid
        WHERE a.atttypid = 'halfvec'::regtype AND a.attstorage <> 'p'""",
    "texts with few values have a check": """
        SELECT t.relname, a.attname FROM t JOIN pg_attribute a ON a.attrelid = t.oid
        WHERE a.attname IN ('status', 'severity', 'type', 'policy_type', 'cluster_type', 'algorithm', 'added_by',
            'event_category', 'subject_type')
        AND NOT EXISTS (SELECT FROM pg_constraint k
            WHERE k.conrelid = t.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum])""",
    "every table, column, index and function says what it is for": """
        SELECT t.relname FROM t WHERE obj_description(t.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT t.relname || '.' || a.attname FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
        WHERE NOT a.attisdropped AND col_description(t.oid, a.attnum) IS NULL
        UNION ALL
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN t ON t.oid = i.indrelid
        WHERE obj_description(i.indexrelid, 'pg_class') IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'app'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL""",
}


def found(connection: psycopg.Connection[Any], rule: str) -> list[str]:
    return flat(connection.execute(f"WITH t AS ({TABLES}) {RULES[rule]}").fetchall())


def broken(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    return {rule: rows for rule in RULES if (rows := found(connection, rule))}


def test_the_ten_tables_are_there(schema: Schema) -> None:
    assert set(schema.tables()) == EXPECTED


def test_every_rule_holds(schema: Schema) -> None:
    with schema.connect() as connection:
        assert broken(connection) == {}


FAULTS = [
    ("row security is on", "ALTER TABLE faces NO FORCE ROW LEVEL SECURITY"),
    ("row security is on", "ALTER TABLE faces DISABLE ROW LEVEL SECURITY"),
    ("row security is on", "ALTER TABLE event_audit_default DISABLE ROW LEVEL SECURITY"),
    ("row security is on", "CREATE TABLE forgotten (id uuid)"),
    ("the wall is", "DROP POLICY tenant_isolation ON faces"),
    ("the wall is", "ALTER POLICY tenant_isolation ON faces USING (true)"),
    ("the wall is", "ALTER POLICY tenant_isolation ON faces TO mordeaux_app"),
    ("no policy holds", "ALTER POLICY tenant_isolation ON faces USING (tenant_id = (SELECT app.current_tenant_id()))"),
    ("the tenant is in every foreign", "ALTER TABLE tenants ADD best uuid, ADD UNIQUE (best); "
     "ALTER TABLE faces ADD best uuid REFERENCES tenants (best)"),
    ("every foreign key has", "ALTER TABLE faces ADD twin uuid, ADD FOREIGN KEY (tenant_id, twin) REFERENCES faces"),
    ("no foreign key sets", "ALTER TABLE cluster_members DROP CONSTRAINT cluster_members_face_fkey, ADD FOREIGN KEY "
     "(tenant_id, face_id) REFERENCES faces ON DELETE SET NULL"),
    ("the tenant is in every primary", "CREATE UNIQUE INDEX ON faces (s3_key_thumbnail)"),
    ("no index is the beginning", "CREATE INDEX ON faces (tenant_id, content_id)"),
    ("no index of content", "CREATE INDEX ON content (tenant_id, created_at) WHERE status = 'pending'"),
    ("there are no enums", "CREATE TYPE mood AS ENUM ('good')"),
    ("there are no sequences", "CREATE SEQUENCE numbers"),
    ("the roles of the application bypass", "ALTER ROLE mordeaux_app BYPASSRLS"),
    ("the roles of the application bypass", "ALTER TABLE alerts OWNER TO mordeaux_admin"),
    ("the roles of the application make", "GRANT CREATE ON SCHEMA public TO mordeaux_app"),
    ("nobody may truncate", "GRANT TRUNCATE ON faces TO mordeaux_app"),
    ("nothing is granted on", "GRANT SELECT ON event_audit_default TO mordeaux_app"),
    ("nothing is granted on", "GRANT SELECT ON faces TO PUBLIC"),
    ("only the columns", "GRANT UPDATE (tenant_id) ON faces TO mordeaux_app"),
    ("only the columns", "GRANT UPDATE (event_data) ON event_audit TO mordeaux_app"),
    ("only the columns", "ALTER TABLE faces ADD forgotten text"),
    ("events may be added", "GRANT DELETE ON event_audit TO mordeaux_app"),
    ("events may be added", "GRANT INSERT (created_at) ON event_audit TO mordeaux_app"),
    ("what comes, changes", "CREATE TABLE forgotten (id uuid)"),
    ("what comes, changes", "DROP TRIGGER audit_edit ON content"),
    ("what comes, changes", "ALTER TABLE faces DISABLE TRIGGER audit_delete"),
    ("views run", "CREATE VIEW everything AS SELECT * FROM faces"),
    ("functions with their", "ALTER FUNCTION app.current_tenant_id() SECURITY DEFINER"),
    ("trigger functions that", "ALTER FUNCTION app.audit_row() RESET search_path"),
    ("the partitions are in", "GRANT EXECUTE ON FUNCTION app.drop_event_audit_partitions TO mordeaux_admin"),
    ("vectors are stored", "ALTER TABLE embeddings ALTER embedding SET STORAGE EXTERNAL"),
    ("texts with few", "ALTER TABLE alerts DROP CONSTRAINT alerts_status_check"),
    ("updated_at is kept", "DROP TRIGGER touch_row ON faces"),
    ("updated_at is kept", "ALTER TABLE faces DISABLE TRIGGER touch_row"),
    ("id is made", "ALTER TABLE faces ALTER id SET DEFAULT gen_random_uuid()"),
    ("created_at and", "ALTER TABLE faces ALTER updated_at DROP NOT NULL"),
    ("every row belongs", "ALTER TABLE alerts DROP CONSTRAINT alerts_pkey, ALTER tenant_id DROP NOT NULL"),
    ("the primary key", "ALTER TABLE alerts DROP CONSTRAINT alerts_pkey"),
    ("JSONB is never", "ALTER TABLE faces DROP CONSTRAINT faces_emotion_check"),
    ("every constraint is", "ALTER TABLE faces ADD CHECK (age_estimate < 140) NOT VALID"),
    ("every table, column", "COMMENT ON COLUMN faces.phash IS NULL"),
    ("every table, column", "COMMENT ON INDEX faces_phash_idx IS NULL"),
]  # fmt: skip


def missed(connection: psycopg.Connection[Any], start: str, fault: str) -> bool:
    (rule,) = [rule for rule in RULES if rule.startswith(start)]
    with connection.transaction(force_rollback=True):
        connection.execute(fault)
        return not found(connection, rule)


def test_every_planted_fault_breaks_its_rule(owned: Schema) -> None:
    with owned.connect() as connection:
        assert [fault for start, fault in FAULTS if missed(connection, start, fault)] == []


def test_one_more_permissive_policy_breaks_nothing_because_the_wall_is_restrictive(owned: Schema) -> None:
    owned.do(superuser, "CREATE POLICY generous ON faces USING (true)")
    with owned.connect() as connection:
        assert broken(connection) == {}


def test_the_readme_of_the_migrations_describes_the_tables_as_they_are(schema: Schema) -> None:
    text = (MIGRATIONS / "README.md").read_text(encoding="utf-8")
    with schema.connect() as connection:
        connection.execute("CREATE TABLE schema_migrations (i int)")
        connection.execute("CREATE INDEX embeddings_ann_of_a_tenant ON embeddings (tenant_id) WHERE vector_norm > 1")
        assert docs.replace(text, docs.describe(connection)) == text, "stale; to mend it:  invoke db.docs"
        connection.rollback()


def test_a_change_of_a_comment_makes_the_readme_stale(owned: Schema) -> None:
    text = (MIGRATIONS / "README.md").read_text(encoding="utf-8")
    with owned.connect() as connection:
        connection.execute("COMMENT ON INDEX faces_pkey IS 'Something else.'")
        assert docs.replace(text, docs.describe(connection)) != text
