"""Each index serves a listed query, each listed query uses its index; and the search finds what it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.integration.schema_fixtures import UNIT, A, B, Who, a, admin, b, fails, nobody_in_particular, superuser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.schema_fixtures import Schema

SMALL = "cccccccc-0000-7000-8000-000000000001"
small = Who("app", SMALL)
OLD = "now() - (30000 - i) * interval '4 minutes'"  # 83 days, oldest first
ID_AT = "(left(app.uuid_v7_floor({})::text, 24) || right(gen_random_uuid()::text, 12))::uuid"
# A has every second row; 100 other tenants share the rest, so a tenant's rows lie between those of others.
TENANT = f"CASE WHEN i % 2 = 0 THEN '{A}' ELSE 'cccccccc-0000-7000-8000-' || lpad((i % 100)::text, 12, '0') END::uuid"
NEWER = """SELECT id, tenant_id, created_at, row_number() OVER (ORDER BY created_at) AS i
    FROM content WHERE s3_key_raw = 'bulk'"""
FILL = f"""
SET LOCAL session_replication_role = replica; -- no triggers: the rows are made as the triggers would leave them
INSERT INTO tenants (id, name, slug)
    SELECT ('cccccccc-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'n', 'slug-' || i
    FROM generate_series(0, 1999) i;
INSERT INTO sources (tenant_id, name, type, next_run_at)
    SELECT {TENANT}, 'source ' || i, 'api', now() + (i - 20) * interval '1 minute' FROM generate_series(1, 5000) i;
INSERT INTO policies (tenant_id, name, is_default) SELECT id, 'default', true FROM tenants WHERE slug LIKE 'slug-%';
INSERT INTO policies (tenant_id, name) SELECT id, 'other' FROM tenants WHERE slug LIKE 'slug-%';
INSERT INTO content (id, tenant_id, source_id, created_at, s3_key_raw, external_id, sha256, status, site)
    SELECT {ID_AT.format(OLD)}, {TENANT}, ('dddddddd-0000-7000-8000-' || lpad((i % 500)::text, 12, '0'))::uuid, {OLD},
    'bulk', 'ext ' || i, sha256(i::text::bytea), 'completed', 'site ' || i % 50 FROM generate_series(1, 30000) i;
INSERT INTO faces (id, tenant_id, content_id, face_index, bbox_x, bbox_y, bbox_width, bbox_height, phash)
    SELECT id, tenant_id, id, 0, 0, 0, 1, 1, hashint8extended(i, 1) FROM ({NEWER}) c;
INSERT INTO embeddings (id, tenant_id, face_id, model_name, model_version, embedding)
    SELECT c.id, c.tenant_id, c.id, 'buffalo_l', '1', l2_normalize(v.made::vector::halfvec(512)) FROM ({NEWER}) c JOIN (
        SELECT n, array_agg(random() - 0.5) AS made FROM generate_series(1, 3000) n, generate_series(1, 512) GROUP BY n
    ) v ON v.n = c.i;
INSERT INTO clusters (id, tenant_id, algorithm) SELECT id, tenant_id, 'dbscan' FROM ({NEWER}) c WHERE i % 5 < 2;
INSERT INTO cluster_members (tenant_id, cluster_id, face_id, similarity_score)
    SELECT tenant_id, id, id, 1 FROM ({NEWER}) c;
INSERT INTO alerts (tenant_id, alert_type, severity, status, resolved_at, title, priority, subject_type, subject_id)
    SELECT tenant_id, 'match', 'low', CASE WHEN i % 20 < 2 THEN 'open' ELSE 'resolved' END,
    CASE WHEN i % 20 < 2 THEN NULL ELSE now() END, 't', i % 7, 'face', id FROM ({NEWER}) c;
SELECT app.add_event_audit_partition(to_char(m, '"event_audit_"YYYYMM'),
    format('FOR VALUES FROM (%L) TO (%L)', m::timestamptz, (m + interval '1 month')::timestamptz))
    FROM generate_series(date_trunc('month', now()) - interval '4 months', now() - interval '1 month', '1 month') m;
INSERT INTO event_audit (id, tenant_id, created_at, event_type, event_category, request_id)
    SELECT id, tenant_id, created_at, CASE WHEN i % 50 < 2 THEN 'policies.update' ELSE 'search' END,
    CASE WHEN i % 50 < 2 THEN 'data' ELSE 'search' END, CASE WHEN i % 3 = 0 THEN 'r-' || i / 10 END FROM ({NEWER}) c;
"""


@dataclass(frozen=True, slots=True)
class Query:
    """A query that the application asks.

    Attributes:
        index: the index that is there for it.
        purpose: what it finds.
        sql: the query; {id}, {from}, {to} are of the tenant's own data.
        who: who asks.

    """

    index: str
    purpose: str
    sql: str
    who: Who = a


BY_ID = "SELECT * FROM {} WHERE tenant_id = app.current_tenant_id() AND id = '{{id}}'"
NEAREST = (
    "SELECT face_id FROM embeddings WHERE tenant_id = '{}' AND model_name = 'buffalo_l' AND model_version = '1' "
    f"ORDER BY embedding <#> {UNIT} LIMIT 10"
)
QUERIES = [
    Query("tenants_pkey", "a tenant by id", f"SELECT * FROM tenants WHERE id = '{A}'"),
    Query("tenants_slug_key", "a tenant by slug", "SELECT * FROM tenants WHERE slug = 'slug-7'", admin),
    Query("sources_pkey", "a source by id", BY_ID.format("sources")),
    Query("sources_name_key", "a source by name", "SELECT * FROM sources WHERE name = 'source 10'"),
    Query("sources_due_idx", "what is due, over all tenants", "SELECT * FROM sources WHERE status = 'active' "
          "AND next_run_at <= now() ORDER BY next_run_at LIMIT 100", admin),
    Query("content_pkey", "an item by id", BY_ID.format("content")),
    Query("content_pkey", "the newest items", "SELECT id FROM content ORDER BY id DESC LIMIT 50"),
    Query("content_pkey", "the next page", "SELECT id FROM content WHERE id < '{id}' ORDER BY id DESC LIMIT 50"),
    Query("content_pkey", "a time range", "SELECT * FROM content WHERE id >= app.uuid_v7_floor('{from}') "
          "AND id < app.uuid_v7_floor('{to}')"),
    Query("content_source_idx", "the items of a source, newest first", "SELECT * FROM content "
          "WHERE source_id = '{source}' ORDER BY id DESC LIMIT 50"),
    Query("content_external_key", "fetched before?", "SELECT id FROM content WHERE source_id = '{source}' "
          "AND external_id = 'ext 100'"),
    Query("content_sha256_idx", "seen before?", "SELECT id FROM content WHERE sha256 = sha256('100')"),
    Query("content_created_idx", "what got stuck, over all tenants", "SELECT id FROM content "
          "WHERE created_at > now() - interval '2 days' AND status IN ('pending', 'processing')", admin),
    Query("faces_pkey", "a face by id", BY_ID.format("faces")),
    Query("faces_content_index_key", "the faces of an item", "SELECT * FROM faces WHERE content_id = '{id}' "
          "ORDER BY face_index"),
    Query("faces_phash_idx", "near duplicates", "SELECT id FROM faces WHERE phash BETWEEN 77::bigint << 48 "
          "AND (77::bigint << 48) + 281474976710655 AND bit_count((phash # (77::bigint << 48))::bit(64)) <= 8"),
    Query("embeddings_pkey", "a vector by id", BY_ID.format("embeddings")),
    Query("embeddings_pkey", "who looks like this, exactly", NEAREST.format(SMALL), small),
    Query("embeddings_face_model_key", "the vector of a face", "SELECT * FROM embeddings WHERE face_id = '{id}' "
          "AND model_name = 'buffalo_l' AND model_version = '1'"),
    Query("clusters_pkey", "the newest clusters", "SELECT * FROM clusters ORDER BY id DESC LIMIT 50"),
    Query("cluster_members_pkey", "a membership by id", BY_ID.format("cluster_members")),
    Query("cluster_members_pair_key", "the faces of a cluster", "SELECT * FROM cluster_members "
          "WHERE cluster_id = '{id}'"),
    Query("cluster_members_face_idx", "the clusters of a face", "SELECT * FROM cluster_members WHERE face_id = '{id}'"),
    Query("policies_pkey", "a policy by id", BY_ID.format("policies")),
    Query("policies_name_key", "the policies of a tenant", "SELECT * FROM policies WHERE is_active", small),
    Query("policies_name_key", "a policy by name", "SELECT * FROM policies WHERE name = 'other'", small),
    Query("policies_default_key", "the default of a type", "SELECT * FROM policies "
          "WHERE policy_type = 'access_control' AND is_default AND is_active", small),
    Query("event_audit_pkey", "the newest events", "SELECT * FROM event_audit "
          "WHERE tenant_id = app.current_tenant_id() ORDER BY created_at DESC LIMIT 50"),
    Query("event_audit_pkey", "a day of events", "SELECT * FROM event_audit "
          "WHERE created_at >= '{from}' AND created_at < '{to}'", small),
    Query("event_audit_type_idx", "who changed policies", "SELECT * FROM event_audit "
          "WHERE event_type = 'policies.update' AND event_category = 'data' ORDER BY created_at DESC LIMIT 50"),
    Query("event_audit_request_idx", "what happened in a request", "SELECT * FROM event_audit "
          "WHERE request_id = 'r-100'"),
    Query("event_audit_created_idx", "an hour over all tenants", "SELECT * FROM event_audit "
          "WHERE created_at >= '{from}' AND created_at < '{from}'::timestamptz + interval '1 hour'", admin),
    Query("alerts_pkey", "an alert by id", BY_ID.format("alerts")),
    Query("alerts_open_idx", "the open alerts, most urgent first", "SELECT * FROM alerts "
          "WHERE status IN ('open', 'acknowledged', 'investigating') ORDER BY priority DESC, id DESC LIMIT 50"),
    Query("alerts_subject_idx", "the alerts about a thing", "SELECT * FROM alerts WHERE subject_id = '{id}'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(templates: Callable[[str], Schema]) -> Iterator[Schema]:
    """A database with 30,000 items of a large tenant and a hundred small ones."""
    schema = templates("18 superuser").copy()
    schema.do(superuser, FILL)
    with schema.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    yield schema
    schema.drop()


def values(schema: Schema, who: Who) -> dict[str, str]:
    """Values for the queries: of an item in the middle of the data."""
    row = schema.rows(
        superuser,
        "SELECT id::text, source_id::text, created_at::text, (created_at + interval '1 day')::text FROM content"
        " WHERE tenant_id = %s ORDER BY id OFFSET 100 LIMIT 1",
        who.tenant or A,
    )[0]
    return dict(zip(("id", "source", "from", "to"), row, strict=True))


def plan(schema: Schema, who: Who, query: str) -> set[str]:
    """Return the indexes of a query's plan; a partition's index counts as the one it belongs to."""
    ((text,),) = schema.rows(who, f"EXPLAIN (FORMAT JSON) {query}")
    parents = dict(
        schema.rows(superuser, "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits")
    )

    def walk(node: dict[str, Any]) -> Iterator[str]:
        if "Index Name" in node:
            yield parents.get(node["Index Name"], node["Index Name"])
        for child in node.get("Plans", []):
            yield from walk(child)

    return set(walk(text[0]["Plan"]))


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.purpose)
def test_the_index_that_is_there_for_it_serves(query: Query, filled: Schema) -> None:
    assert plan(filled, query.who, query.sql.format(**values(filled, query.who))) == {query.index}


def check_indexes(schema: Schema) -> None:
    found = schema.rows(superuser, """
        SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition""")  # fmt: skip
    assert {name for (name,) in found} == {query.index for query in QUERIES}


def test_there_is_no_index_without_a_query(schema: Schema) -> None:
    check_indexes(schema)


def test_one_more_index_without_a_query_is_noticed(owned: Schema) -> None:
    owned.do(superuser, "CREATE INDEX ON faces (quality_score)")
    assert fails(check_indexes, owned)


def test_without_its_index_a_query_is_noticed(filled: Schema) -> None:
    (query,) = [query for query in QUERIES if query.index == "alerts_open_idx"]
    with filled.transaction(superuser) as connection:
        connection.execute("DROP INDEX alerts_open_idx")
        connection.execute("SET LOCAL ROLE mordeaux_app")
        connection.execute(f"SET LOCAL app.tenant_id = '{A}'")
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {query.sql}").fetchone()
        assert row is not None
        assert "alerts_open_idx" not in str(row[0])
        connection.rollback()


def test_a_change_of_status_touches_no_index(filled: Schema) -> None:
    """Heap-only updates: pg_stat counts them."""
    with filled.connect(a, autocommit=True) as connection:
        with connection.transaction():
            connection.execute(f"SET LOCAL app.tenant_id = '{A}'")
            done = connection.execute("UPDATE content SET status = 'failed', error_message = 'x' WHERE id IN "
                                      "(SELECT id FROM content ORDER BY id LIMIT 5)")  # fmt: skip
            assert done.rowcount == 5
        connection.execute("SELECT pg_stat_force_next_flush()")
        counted = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'content'"
        )
        assert counted.fetchone() == (5, 5)


MATCH = "SELECT content_id, face_id, score, thumb_s3_key, cluster_id FROM app.match_faces({})"


def vector_of(schema: Schema, who: Who, number: int = 0) -> tuple[Any, str]:
    return schema.rows(
        who, "SELECT face_id, embedding::text FROM embeddings ORDER BY id DESC OFFSET %s LIMIT 1", number
    )[0]


def test_a_search_finds_the_face_itself_first_and_only_faces_of_its_tenant(filled: Schema) -> None:
    face, vector = vector_of(filled, small)
    found = filled.rows(small, MATCH.format(f"'{vector}', 10, -1"))
    assert len(found) == 10
    assert found[0][1] == face
    assert found[0][2] == pytest.approx(1, abs=0.01)
    scores = [score for _, _, score, _, _ in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores), scores
    owners = filled.rows(
        superuser, "SELECT DISTINCT tenant_id::text FROM faces WHERE id = ANY (%s)", [row[1] for row in found]
    )
    assert owners == [(SMALL,)]


def test_a_search_shows_the_thumbnail_and_the_best_cluster(schema: Schema) -> None:
    schema.do(a, "UPDATE faces SET s3_key_thumbnail = 'thumb/1'")
    schema.do(a, "INSERT INTO clusters (id, algorithm) VALUES (%s, 'dbscan')", B)
    schema.do(a, "INSERT INTO cluster_members (cluster_id, face_id, similarity_score) VALUES (%s, %s, 0.5)", B, A)
    ((content, face, score, thumb, cluster),) = schema.rows(a, MATCH.format(UNIT))
    assert (str(content), str(face), thumb, str(cluster)) == (A, A, "thumb/1", A)
    assert score == pytest.approx(1, abs=0.01)


def test_a_search_answers_only_for_the_model_it_names(schema: Schema) -> None:
    assert len(schema.rows(a, MATCH.format(UNIT))) == 1
    assert schema.rows(a, MATCH.format(f"{UNIT}, model_version => '2'")) == []
    assert schema.rows(a, MATCH.format(f"{UNIT}, model_name => 'it''s another'")) == []


def test_a_search_leaves_out_what_is_below_the_least_score(filled: Schema) -> None:
    _, vector = vector_of(filled, small)
    assert len(filled.rows(small, MATCH.format(f"'{vector}', 10, 0.9"))) == 1


def test_a_search_can_be_narrowed_by_site_and_time(schema: Schema) -> None:
    for where, count in {
        "site => 'example.org'": 1,
        "site => 'example.com'": 0,
        "ts_from => now() - interval '1 hour'": 1,
        "ts_from => now() + interval '1 hour'": 0,
        "ts_to => now() - interval '1 hour'": 0,
        "site => 'example.org', ts_from => now() - interval '1 hour', ts_to => now() + interval '1 hour'": 1,
    }.items():
        assert len(schema.rows(a, MATCH.format(f"{UNIT}, {where}"))) == count, where


def test_a_search_without_a_tenant_is_refused_and_says_what_to_set(schema: Schema) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"SET LOCAL app\.tenant_id"):
        schema.rows(nobody_in_particular, MATCH.format(UNIT))


@pytest.mark.parametrize("k", ["0", "1001", "NULL"])
def test_a_search_for_no_or_too_many_faces_is_refused(k: str, owned: Schema) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="it must be 1 to 1000"):
        owned.rows(a, MATCH.format(f"{UNIT}, {k}"))


def test_a_search_leaves_the_settings_of_the_session_as_they_were(schema: Schema) -> None:
    with schema.transaction(a) as connection:
        connection.execute("SELECT '[1]'::vector")  # loads the library, which knows the settings
        connection.execute("SET LOCAL hnsw.ef_search = 77")
        connection.execute(MATCH.format(UNIT))
        names = "hnsw.ef_search", "hnsw.iterative_scan", "plan_cache_mode"
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in names]
    assert shown == [("77",), ("off",), ("auto",)]


def test_a_search_works_as_the_first_thing_a_session_does(schema: Schema) -> None:
    with schema.transaction(a) as connection:
        found = connection.execute(MATCH.format("(SELECT embedding FROM embeddings)")).fetchall()
    assert len(found) == 1


def test_a_tenant_with_its_own_index_searches_by_it_and_finds_nearly_all(filled: Schema) -> None:
    schema = filled.copy()
    statement = schema.one(superuser, "SELECT app.ann_index_ddl(%s, 'buffalo_l', '1')", A)
    with schema.connect(autocommit=True) as connection:
        connection.execute(statement)
        connection.execute(statement)  # asked twice, made once
    name = schema.one(superuser, "SELECT app.ann_index_name(%s, 'buffalo_l', '1')", A)
    made = "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indisvalid AND indexrelid::regclass::text = %s"
    assert A in schema.one(superuser, made, name)
    assert plan(schema, a, NEAREST.format(A)) == {name}
    assert plan(schema, small, NEAREST.format(SMALL)) == {"embeddings_pkey"}
    hits = 0
    for number in range(0, 1000, 100):
        _, vector = vector_of(schema, a, number)
        exact = {row[1] for row in schema.rows(a, MATCH.format(f"'{vector}', exact => true"))}
        quick = {row[1] for row in schema.rows(a, MATCH.format(f"'{vector}'"))}
        hits += len(exact & quick)
    assert hits >= 90, "recall below 0.9 on random vectors, the hardest there are"
    schema.drop()


def test_a_small_tenant_gets_all_it_asked_for_beside_a_large_one(filled: Schema) -> None:
    count = filled.one(small, "SELECT count(*) FROM embeddings")
    _, vector = vector_of(filled, a)  # a face that the large tenant has
    assert len(filled.rows(small, MATCH.format(f"'{vector}', 25, -1"))) == min(count, 25)


def test_what_one_tenant_finds_another_does_not(schema: Schema) -> None:
    (mine,), (theirs,) = schema.rows(a, MATCH.format(UNIT)), schema.rows(b, MATCH.format(UNIT))
    assert (str(mine[1]), str(theirs[1])) == (A, B)
