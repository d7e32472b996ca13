"""How fast the schema is, beside the old one, in one run on a server of its own. By hand:

    python -m tests.benchmarks.schema [FACES] > table.md

One tenant has FACES faces (100,000), 200 tenants share as many; each face leaves 5 events. A face is the direction of
its person and noise. Directions use some dimensions more than others, as those of real models do. Two faces of one
person have a cosine of about 0.63 (0.53 to 0.74), of two people 0 with a standard deviation of 0.085.

The old schema is that of the scripts this project replaces: random UUIDs, vectors as FLOAT[], no tenant on faces and
vectors, an index on almost every column, no foreign keys, no row security. What is compared is done in turn, a step on
this side, a step on that, and of many steps the median counts: what else the machine does falls on both. The new schema
is used as an application must, as mordeaux_app with a tenant set; so a statement inserts rows of one tenant. Values are
made ahead on both sides, ids as well: a random number takes 0.5 to 5 us, by how PostgreSQL was built, the same on both.

What row security costs is the difference to a role that may read the same and is not bound by it, with the tenant named
in the query; of statements that are prepared (as psycopg does by itself), and of statements planned each time.
"""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import postgres
from tests.integration.schema_fixtures import Schema, apply, empty, ups

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

FACES = 100_000
EVENTS = 5
TENANTS = 200
TENANT = "00000000-0000-7000-8000-{:012}"
LARGE, SMALL = TENANT.format(0), TENANT.format(7)
NOISE = 0.0339  # standard deviation; 1 / (1 + 512 * NOISE^2) is the cosine of two faces of one person
SEARCHES = 100
REPEATS = 150
SETTINGS = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "4GB",
    "maintenance_work_mem": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "jit": "off",
    "autovacuum": "off", "effective_cache_size": "8GB",
}  # fmt: skip

OLD_COLUMNS = {
    "content": "tenant_id uuid NOT NULL, source_id uuid NOT NULL, external_id varchar(255), title varchar(500), "
    "description text, url varchar(1000), s3_key_raw varchar(500) NOT NULL, s3_key_processed varchar(500), "
    "content_type varchar(100), file_size bigint, mime_type varchar(100), metadata jsonb DEFAULT '{}', "
    "status varchar(20) DEFAULT 'pending', processing_started_at timestamptz, processing_completed_at timestamptz, "
    "error_message text, fetch_ts timestamptz DEFAULT now()",
    "faces": "content_id uuid NOT NULL, face_index int NOT NULL, bbox jsonb NOT NULL, landmarks jsonb, "
    "quality_score float CHECK (quality_score BETWEEN 0 AND 1), "
    "confidence_score float CHECK (confidence_score BETWEEN 0 AND 1), s3_key_aligned varchar(500), "
    "s3_key_thumbnail varchar(500), phash varchar(64), age_estimate int, gender_estimate varchar(10), emotion jsonb, "
    "attributes jsonb DEFAULT '{}'",
    "embeddings": "face_id uuid NOT NULL, model_name varchar(100) NOT NULL, model_version varchar(50) NOT NULL, "
    "vector float[] NOT NULL, vector_norm float, metadata jsonb DEFAULT '{}'",
    "event_audit": "tenant_id uuid, event_type varchar(100) NOT NULL, event_category varchar(50) NOT NULL, "
    "event_data jsonb NOT NULL DEFAULT '{}', user_id varchar(255), session_id varchar(255), ip_address inet, "
    "user_agent text, request_id varchar(255), source_service varchar(100), severity varchar(20) DEFAULT 'info', "
    "tags jsonb DEFAULT '[]'",
    "alerts": "tenant_id uuid NOT NULL, alert_type varchar(100) NOT NULL, severity varchar(20) NOT NULL, "
    "title varchar(255) NOT NULL, description text, message text, alert_data jsonb DEFAULT '{}', "
    "source_service varchar(100), source_id varchar(255), status varchar(20) DEFAULT 'open', priority int DEFAULT 0, "
    "assigned_to varchar(255), resolution_notes text, resolved_at timestamptz, resolved_by varchar(255), "
    "acknowledged_at timestamptz, acknowledged_by varchar(255), tags jsonb DEFAULT '[]', metadata jsonb DEFAULT '{}'",
}
OLD_INDEXES = {
    "content": "tenant_id; source_id; external_id; status; fetch_ts; processing_started_at; processing_completed_at; "
    "created_at; tenant_id, status",
    "faces": "content_id; face_index; quality_score; confidence_score; phash; age_estimate; gender_estimate; "
    "created_at; content_id, face_index",
    "embeddings": "face_id; model_name; model_version; vector_norm; created_at; model_name, face_id",
    "event_audit": "tenant_id; event_type; event_category; user_id; session_id; ip_address; request_id; "
    "source_service; severity; created_at; tenant_id, created_at; event_type, created_at",
    "alerts": "tenant_id; alert_type; severity; status; priority; assigned_to; resolved_at; acknowledged_at; "
    "source_service; created_at; updated_at; tenant_id, status; tenant_id, severity; status, created_at",
}

STAGE = """
CREATE SCHEMA stage;
CREATE FUNCTION stage.noise(i int, deviation float) RETURNS vector LANGUAGE sql VOLATILE AS
    $$ SELECT array_agg(random_normal(0, deviation))::vector(512) FROM generate_series(1, 512) $$;
CREATE FUNCTION stage.person(i int) RETURNS vector LANGUAGE sql VOLATILE AS
    $$ SELECT array_agg(random_normal(0, exp(-k / 56.0)))::vector(512) FROM generate_series(1, 512) k $$;
CREATE UNLOGGED TABLE stage.identity AS
    SELECT n, l2_normalize(stage.person(n)) AS centre FROM generate_series(0, {rows} / 7) n;
ALTER TABLE stage.identity ADD PRIMARY KEY (n);
CREATE FUNCTION stage.centre(i int) RETURNS vector LANGUAGE sql STABLE AS
    $$ SELECT centre FROM stage.identity WHERE n = (hashint4(i) & 2147483647) % ({rows} / 7) $$;
CREATE UNLOGGED TABLE stage.face AS
    SELECT i, app.uuid_v7() AS id, gen_random_uuid() AS old_id,
    (left('{large}', 24) || lpad((CASE WHEN i / {block} % 2 = 0 THEN 0 ELSE 1 + i / {block} / 2 % {tenants} END)::text,
        12, '0'))::uuid AS tenant_id,
    hashint8extended(i, 7) AS phash, random()::real AS score, v::halfvec(512) AS half, v::real[]::float8[] AS floats
    FROM (SELECT i, l2_normalize(stage.centre(i) + stage.noise(i, {noise} * (0.7 + 0.6 * random()))) AS v
          FROM generate_series(0, {rows} - 1) i OFFSET 0) made;
ALTER TABLE stage.face ADD PRIMARY KEY (i);
CREATE INDEX ON stage.face (tenant_id);
CREATE UNLOGGED TABLE stage.query AS
    SELECT tenant_id, l2_normalize(stage.centre(i) + stage.noise(i, {noise} * (0.7 + 0.6 * random()))) AS v FROM (
        SELECT i, tenant_id, row_number() OVER (PARTITION BY tenant_id ORDER BY hashint4(i + 1)) AS place
        FROM stage.face WHERE tenant_id IN ('{large}', '{small}')) picked
    WHERE place <= {searches};
ANALYZE stage.face;
GRANT USAGE ON SCHEMA stage TO PUBLIC;
CREATE ROLE unbound BYPASSRLS;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO unbound;
GRANT INSERT (id) ON event_audit TO mordeaux_app;
INSERT INTO tenants (id, name, slug) SELECT DISTINCT tenant_id, 'n', 't-' || right(tenant_id::text, 12) FROM stage.face;
INSERT INTO sources (id, tenant_id, name, type) SELECT id, id, 'crawler', 'crawler' FROM tenants;
"""

EVENT_COLUMNS = (
    "id, tenant_id, event_type, event_category, event_data, user_id, session_id, ip_address, user_agent, request_id, "
    "source_service"
)
EVENT = (
    ", s.tenant_id, CASE WHEN s.i % 20 = 0 THEN 'policies.update' ELSE 'face_detected' END, "
    "CASE WHEN s.i % 20 = 0 THEN 'data' ELSE 'processing' END, jsonb_build_object('content_id', s.id, 'faces', 1), "
    "'user-' || s.phash % 5000, 'session-' || s.phash % 50000, '10.0.0.0'::inet + (s.phash & 65535), 'worker/1.0', "
    "CASE WHEN s.phash % 3 = 0 THEN 'request-' || s.phash % 500000 END, 'face-worker'"
)

# What is inserted from the row `s` of the stage: (columns, values) of the old schema and of the new one.
ROWS = {
    "content": (
        ("id, tenant_id, source_id, external_id, url, s3_key_raw, content_type, mime_type, file_size, status",
         "s.old_id, s.tenant_id, s.tenant_id, 'ext-' || s.i, 'https://example.org/' || s.i, 'raw/' || s.i, 'image', "
         "'image/jpeg', s.i, 'completed'"),
        ("id, tenant_id, source_id, external_id, url, s3_key_raw, content_type, mime_type, file_size, status",
         "s.id, s.tenant_id, s.tenant_id, 'ext-' || s.i, 'https://example.org/' || s.i, 'raw/' || s.i, 'image', "
         "'image/jpeg', s.i, 'completed'"),
    ),
    "faces": (
        ("id, content_id, face_index, bbox, quality_score, confidence_score, phash, age_estimate, gender_estimate, "
         "s3_key_aligned, s3_key_thumbnail",
         "s.old_id, s.old_id, 0, jsonb_build_object('x', s.i % 500, 'y', s.i % 300, 'width', 100, 'height', 120), "
         "s.score, s.score, to_hex(s.phash), s.i % 90, 'f', 'aligned/' || s.i, 'thumb/' || s.i"),
        ("id, tenant_id, content_id, face_index, bbox_x, bbox_y, bbox_width, bbox_height, quality_score, "
         "confidence_score, phash, age_estimate, gender_estimate, s3_key_aligned, s3_key_thumbnail",
         "s.id, s.tenant_id, s.id, 0, s.i % 500, s.i % 300, 100, 120, s.score, s.score, s.phash, s.i % 90, 'f', "
         "'aligned/' || s.i, 'thumb/' || s.i"),
    ),
    "embeddings": (
        ("id, face_id, model_name, model_version, vector, vector_norm",
         "gen_random_uuid(), s.old_id, 'buffalo_l', '1', s.floats, s.score + 1"),
        ("id, tenant_id, face_id, model_name, model_version, embedding, vector_norm",
         "app.uuid_v7(), s.tenant_id, s.id, 'buffalo_l', '1', s.half, s.score + 1"),
    ),
    "alerts": (
        ("id, tenant_id, alert_type, severity, title, status, priority, resolved_at, source_id",
         "gen_random_uuid(), s.tenant_id, 'match', 'high', 'seen', "
         "CASE WHEN s.i % 20 < 2 THEN 'open' ELSE 'resolved' END, s.i % 7, "
         "CASE WHEN s.i % 20 < 2 THEN NULL ELSE now() END, s.old_id::text"),
        ("id, tenant_id, alert_type, severity, title, status, priority, resolved_at, subject_type, subject_id",
         "app.uuid_v7(), s.tenant_id, 'match', 'high', 'seen', "
         "CASE WHEN s.i % 20 < 2 THEN 'open' ELSE 'resolved' END, s.i % 7, "
         "CASE WHEN s.i % 20 < 2 THEN NULL ELSE now() END, 'face', s.id"),
    ),
    # Last: the new schema also makes events of what is above.
    "event_audit": ((EVENT_COLUMNS, "gen_random_uuid()" + EVENT), (EVENT_COLUMNS, "app.uuid_v7()" + EVENT)),
}  # fmt: skip

# Listed queries: what for, as it is asked of the old schema, and of the new one. Row security narrows the new one
# to the tenant; without it, `tenant_id = ...` at [] does.
QUERIES = {
    "an item by id": (
        "SELECT * FROM old.content WHERE tenant_id = '{t}' AND id = '{old_id}'",
        "SELECT * FROM content WHERE id = '{id}' []",
    ),
    "the newest 50 items": (
        "SELECT * FROM old.content WHERE tenant_id = '{t}' ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM content WHERE true [] ORDER BY id DESC LIMIT 50",
    ),
    "fetched before?": (
        "SELECT id FROM old.content WHERE tenant_id = '{t}' AND source_id = '{t}' AND external_id = 'ext-{i}'",
        "SELECT id FROM content WHERE source_id = '{t}' AND external_id = 'ext-{i}' []",
    ),
    "the faces of an item": (
        "SELECT * FROM old.faces WHERE content_id = '{old_id}' ORDER BY face_index",
        "SELECT * FROM faces WHERE content_id = '{id}' [] ORDER BY face_index",
    ),
    "near duplicates (64-bit hash, up to 8 bits differ)": (
        "SELECT f.id FROM old.faces f JOIN old.content c ON c.id = f.content_id WHERE c.tenant_id = '{t}' AND "
        "bit_count(('x' || lpad(f.phash, 16, '0'))::bit(64) # ({phash})::bigint::bit(64)) <= 8",
        "SELECT id FROM faces WHERE phash BETWEEN (({phash})::bigint >> 48) << 48 "
        "AND ((({phash})::bigint >> 48) << 48) + 281474976710655 AND bit_count((phash # ({phash}))::bit(64)) <= 8 []",
    ),
    "the newest 50 events": (
        "SELECT * FROM old.event_audit WHERE tenant_id = '{t}' ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM event_audit WHERE true [] ORDER BY created_at DESC LIMIT 50",
    ),
    "the newest 50 events of a rare type": (
        "SELECT * FROM old.event_audit WHERE tenant_id = '{t}' AND event_type = 'policies.update' "
        "ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM event_audit WHERE event_type = 'policies.update' AND event_category = 'data' [] "
        "ORDER BY created_at DESC LIMIT 50",
    ),
    "what happened in a request": (
        "SELECT * FROM old.event_audit WHERE tenant_id = '{t}' AND request_id = 'request-{request}'",
        "SELECT * FROM event_audit WHERE request_id = 'request-{request}' []",
    ),
    "the 50 most urgent open alerts": (
        "SELECT * FROM old.alerts WHERE tenant_id = '{t}' AND status IN ('open', 'acknowledged', 'investigating') "
        "ORDER BY priority DESC, created_at DESC LIMIT 50",
        "SELECT * FROM alerts WHERE status IN ('open', 'acknowledged', 'investigating') [] "
        "ORDER BY priority DESC, id DESC LIMIT 50",
    ),
}


OLD_NEAREST = """SELECT f.id FROM old.embeddings e JOIN old.faces f ON f.id = e.face_id
    JOIN old.content c ON c.id = f.content_id
    WHERE c.tenant_id = '{t}' AND e.model_name = 'buffalo_l' AND e.model_version = '1' ORDER BY {distance} LIMIT 10"""
PLAIN = OLD_NEAREST.replace(
    "{distance}",
    "(SELECT -sum(a * b) / sqrt(sum(a * a) * sum(b * b)) FROM unnest(e.vector, '{floats}'::float8[]) u (a, b))",
)
CAST = OLD_NEAREST.replace("{distance}", "e.vector::vector(512) <=> '{v}'")
NEW_NEAREST = "SELECT face_id FROM app.match_faces('{v}', 10, -1, exact => {exact})"


@dataclass(frozen=True, slots=True)
class Search:
    """A way to find the ten faces most alike.

    Attributes:
        tenant: in which tenant.
        query: what is asked, with the query vector to be filled in.
        limit: how often; fewer where one takes long.

    """

    tenant: str
    query: str
    limit: int = SEARCHES

    @property
    def new(self) -> bool:
        """Whether the new schema is asked, and answers with its own ids."""
        return "match_faces" in self.query


@dataclass(slots=True)
class Found:
    """What came of the searches of one kind: milliseconds and recalls."""

    times: list[float]
    recalls: list[float]

    @property
    def p50(self) -> float:
        """The median of the times."""
        return statistics.median(self.times)

    @property
    def percentiles(self) -> str:
        """The median of the times and the 99th percentile; of fewer than a hundred times, the longest."""
        return f"{self.p50:.2f} / {sorted(self.times)[math.ceil(0.99 * len(self.times)) - 1]:.2f}"

    @property
    def recall(self) -> str:
        """The mean of the recalls."""
        return f"{statistics.mean(self.recalls):.3f}"


@dataclass(frozen=True, slots=True)
class Bench:
    """A connection to the filled database, as a superuser; some things are done in other roles."""

    connection: psycopg.Connection[tuple[Any, ...]]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask; a statement without rows answers with none."""
        cursor = self.connection.execute(query)
        return cursor.fetchall() if cursor.description else []

    def become(self, role: str = "", tenant: str = "") -> None:
        """Take on a role and set its tenant; without arguments, be the superuser again."""
        self.rows(f"SET ROLE {role or 'none'}")
        self.rows(f"SET app.tenant_id = '{tenant}'")

    def timed(self, query: str) -> tuple[float, list[tuple[Any, ...]]]:
        """Return how many milliseconds a query takes, and its rows."""
        start = time.perf_counter()
        rows = self.rows(query)
        return 1000 * (time.perf_counter() - start), rows

    def size(self, table: str) -> tuple[float, float]:
        """Return the megabytes of a table and of its indexes, partitions included."""
        tree = f"pg_partition_tree('{table}')"
        if not self.rows(f"SELECT 1 FROM {tree}"):
            tree = f"(SELECT '{table}'::regclass AS relid)"
        ((heap, indexes),) = self.rows(f"SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)) FROM {tree} x")
        return float(heap) / 1e6, float(indexes) / 1e6


def old_schema() -> Iterator[str]:
    """Yield the statements of the old schema, in a schema of its own."""
    yield "CREATE SCHEMA old"
    for table, columns in OLD_COLUMNS.items():
        times = "created_at timestamptz DEFAULT now()"
        if table != "event_audit":
            times += ", updated_at timestamptz DEFAULT now()"
        yield f"CREATE TABLE old.{table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {columns}, {times})"
        for index in OLD_INDEXES[table].split(";"):
            yield f"CREATE INDEX ON old.{table} ({index})"


def line(what: str, *cells: str) -> None:
    """Print a line of the table, at once."""
    print(f"| {what} | {' | '.join([*cells, '', '', '', '', ''][:5])} |", flush=True)


def note(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def times(old: float, new: float) -> str:
    """Show how many times as good the new one is, of two figures of which more is better."""
    return f"{new / old:,.{0 if new / old >= 100 else 1 if new / old >= 10 else 2}f}"


def make_ready(bench: Bench, table: str, block: int, copies: int) -> None:
    """Make the values to be inserted into both schemas, each row under a number `i`; copies of a block follow it."""
    source = f"""SELECT (i / {block} * {copies} + n) * {block} + i % {block} AS i, phash + n * 7919 AS phash,
        id, old_id, tenant_id, score, half, floats FROM stage.face, generate_series(0, {copies - 1}) n"""
    for new, (columns, values) in enumerate(ROWS[table]):
        ready = f"stage.ready{new}"
        bench.rows(f"CREATE UNLOGGED TABLE {ready} (i, {columns}) AS SELECT s.i, {values} FROM ({source}) s ORDER BY i")
        bench.rows(f"ALTER TABLE {ready} ADD PRIMARY KEY (i)")
        bench.rows(f"GRANT SELECT ON {ready} TO PUBLIC")
    bench.rows("CHECKPOINT")


def tenant_of(block: int) -> str:
    """Return whose the rows of a block are: every other one is the large tenant's."""
    return LARGE if block % 2 == 0 else TENANT.format(1 + block // 2 % TENANTS)


def fill(bench: Bench, table: str, faces: int) -> tuple[float, float]:
    """Insert the rows into both schemas in turn; return the rows per second of the old and of the new one."""
    block, copies = faces // TENANTS, EVENTS if table == "event_audit" else 1
    make_ready(bench, table, block, copies)
    rows = block * copies
    spent: list[list[float]] = [[], []]
    for number in range(2 * TENANTS):
        for new, (columns, _) in enumerate(ROWS[table]):
            if new:
                bench.become("mordeaux_app", tenant_of(number))
            took, _ = bench.timed(
                f"INSERT INTO {'' if new else 'old.'}{table} ({columns}) SELECT {columns} FROM stage.ready{new}"
                f" WHERE i >= {number * rows} AND i < {(number + 1) * rows} ORDER BY i"
            )
            spent[new].append(took)
            bench.become()
    for statement in ("DROP TABLE stage.ready0, stage.ready1", f"ANALYZE old.{table}", f"ANALYZE {table}"):
        bench.rows(statement)
    old, new_ = (1000 * rows / statistics.median(each) for each in spent)
    return old, new_


def inserts(bench: Bench, faces: int) -> None:
    """Fill both schemas and show rates and sizes."""
    for table in ROWS:
        names = (f"old.{table}", table)
        before = [bench.size(name) for name in names]
        old, new = fill(bench, table, faces)
        line(f"{table}: rows inserted a second", f"{old:,.0f}", f"{new:,.0f}", times(old, new))
        grown = [
            [mb - was for mb, was in zip(bench.size(name), size, strict=True)]
            for name, size in zip(names, before, strict=True)
        ]
        shown = [f"{heap:.0f} + {indexes:.0f}" for heap, indexes in grown]
        line(f"{table}: MB of the table + its indexes", *shown, times(sum(grown[1]), sum(grown[0])))
        note(f"{table} filled")


def truth(bench: Bench, tenant: str) -> list[tuple[str, str, dict[bool, set[str]]]]:
    """Return query vectors (as a vector and as floats) with the ids, old and new, of the ten faces most alike."""
    query = f"""SELECT v::text, v::real[]::text, array_agg(old_id::text), array_agg(id::text)
        FROM (SELECT * FROM stage.query WHERE tenant_id = '{tenant}' LIMIT {SEARCHES}) q, LATERAL (
            SELECT old_id, id FROM stage.face WHERE tenant_id = '{tenant}' ORDER BY half <#> v::halfvec(512) LIMIT 10
        ) best GROUP BY v"""
    return [(vector, floats, {False: set(old), True: set(new)}) for vector, floats, old, new in bench.rows(query)]


def search(bench: Bench, searches: dict[str, Search]) -> dict[str, Found]:
    """Search in every way in turn, vector by vector; the first vector warms up and is not counted."""
    known = {tenant: truth(bench, tenant) for tenant in (LARGE, SMALL)}
    note("exact answers known")
    found = {name: Found([], []) for name in searches}
    for turn in range(-1, SEARCHES):
        for name, each in searches.items():
            if turn >= each.limit:
                continue
            vector, floats, best = known[each.tenant][max(turn, 0) % len(known[each.tenant])]
            bench.become("mordeaux_app" if each.new else "", each.tenant)
            took, rows = bench.timed(each.query.format(v=vector, floats=floats, t=each.tenant))
            bench.become()
            if turn >= 0:
                found[name].times.append(took)
                found[name].recalls.append(len({str(row[0]) for row in rows} & best[each.new]) / 10)
    return found


def searches(bench: Bench, faces: int) -> None:
    """Show searches in the large tenant and in a small one."""
    start = time.perf_counter()
    ((statement,),) = bench.rows(f"SELECT app.ann_index_ddl('{LARGE}', 'buffalo_l', '1')")
    bench.rows(statement)
    built = f"{time.perf_counter() - start:.0f} s"
    note(f"index built in {built}")
    approximate, exact = NEW_NEAREST.replace("{exact}", "false"), NEW_NEAREST.replace("{exact}", "true")
    found = search(
        bench,
        {
            "plain": Search(LARGE, PLAIN, 3), "cast": Search(LARGE, CAST, 20), "old small": Search(SMALL, CAST, 50),
            "index": Search(LARGE, approximate), "exact": Search(LARGE, exact), "small": Search(SMALL, approximate),
        },
    )  # fmt: skip

    def compared(what: str, old: str, new: str) -> None:
        line(what, found[old].percentiles, found[new].percentiles, times(found[new].p50, found[old].p50))

    large, small = f"ten most alike of {faces:,}", f"ten most alike of {faces // TENANTS:,}"
    compared(f"{large}, p50 / p99 ms: FLOAT[] in SQL (3 searches); the tenant's own index", "plain", "index")
    compared(f"{large}: FLOAT[] cast to vector (20 searches); the tenant's own index", "cast", "index")
    line(f"{large}: recall@10 of these (the index was built in {built})", found["cast"].recall, found["index"].recall)
    compared(f"{large}: FLOAT[] cast to vector; exact, without the index", "cast", "exact")
    compared(f"{small}, p50 / p99 ms: FLOAT[] cast to vector; exact", "old small", "small")
    line(f"{small}: recall@10", found["old small"].recall, found["small"].recall)


def asked(bench: Bench, variants: dict[str, tuple[str, str]]) -> dict[str, list[float]]:
    """Time queries in turn, each as a role; right before, it is asked once untimed, to be warm."""
    took: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(REPEATS):
        for name, (role, query) in variants.items():
            bench.become(role, LARGE)
            bench.rows(query)
            took[name].append(bench.timed(query)[0])
    bench.become()
    return took


def cost(took: dict[str, list[float]]) -> float:
    """Return the median of what row security added, in ms."""
    return statistics.median(bound - free for bound, free in zip(took["bound"], took["unbound"], strict=True))


def percent(part: float, whole: float) -> str:
    """Show a part of a whole, with its sign."""
    return f"{100 * part / whole:+.0f} %"


def queries(bench: Bench) -> None:
    """Show the listed queries, and what row security costs on them."""
    (row,) = bench.rows(
        "SELECT i, old_id, id, phash, phash % 500000 FROM stage.face"
        f" WHERE tenant_id = '{LARGE}' AND phash % 3 = 0 ORDER BY i OFFSET 100 LIMIT 1"
    )
    known = {"t": LARGE, **dict(zip(("i", "old_id", "id", "phash", "request"), row, strict=True))}
    totals = [[0.0, 0.0], [0.0, 0.0]]  # prepared, planned each time: what row security adds, and to what
    for name, (old, new) in QUERIES.items():
        before = ("", old.format(**known))
        bound = ("mordeaux_app", new.format(**known).replace("[]", ""))
        unbound = ("unbound", new.format(**known).replace("[]", f"AND tenant_id = '{LARGE}'"))
        bench.connection.prepare_threshold = 3
        took = asked(bench, {"old": before, "new": bound})
        old_ms, new_ms = statistics.median(took["old"]), statistics.median(took["new"])
        costs = []
        for total, threshold in zip(totals, (3, None), strict=True):
            bench.connection.prepare_threshold = threshold
            took = asked(bench, {"bound": bound, "unbound": unbound})
            added, whole = cost(took), statistics.median(took["unbound"])
            costs.append(percent(added, whole))
            total[0] += added
            total[1] += whole
        line(f"{name}, p50 ms", f"{old_ms:.2f}", f"{new_ms:.2f}", times(new_ms, old_ms), *costs)
        note(name)
    line("all these queries together", "", "", "", *(percent(*total) for total in totals))


def machine(bench: Bench) -> str:
    """Describe where this runs."""
    named = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    cpu = named[1] if named else platform.processor() or platform.machine()
    ((version, vector),) = bench.rows(
        "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"
    )
    return f"{time.strftime('%Y-%m-%d')}, PostgreSQL {version}, pgvector {vector}, {os.cpu_count()} x {cpu}"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def load() -> str:
    """Tell what else the machine does: how many were at work in the last quarter of an hour, this included."""
    return f"{os.getloadavg()[2]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def measure(bench: Bench, faces: int) -> None:
    """Measure all of it, as one table."""
    start = time.perf_counter()
    numbers = {"rows": 2 * faces, "tenants": TENANTS, "noise": NOISE, "searches": SEARCHES}
    made = STAGE.format(**numbers, block=faces // TENANTS, large=LARGE, small=SMALL)
    for statement in ["SELECT setseed(0.5)", *old_schema(), made]:
        bench.rows(statement)
    note("rows are made")
    title = f"{faces:,} faces of one tenant, {faces:,} of {TENANTS} small ones, {faces // TENANTS} a statement"
    line(title, "old", "new", "times as good", "row security, prepared", "planned each time")
    line("---", *["---:"] * 5)
    inserts(bench, faces)
    bench.rows("VACUUM ANALYZE")
    searches(bench, faces)
    queries(bench)
    print(f"\n{machine(bench)}; {(time.perf_counter() - start) / 60:.0f} minutes, load {load()}.", flush=True)


def main() -> None:
    """Run it all; what it prints on standard output is Markdown."""
    faces = int(sys.argv[1]) // TENANTS * TENANTS if sys.argv[1:] else FACES
    with postgres.running(18, **SETTINGS) as server:
        schema: Schema = empty(server, suffix="", owned=False)
        for path in ups():
            apply(schema, path)
        with schema.connect(autocommit=True) as connection:
            measure(Bench(connection), faces)


if __name__ == "__main__":
    main()
