"""How fast the schema is, beside the old one, in one run on a server of its own. By hand:

    python -m tests.benchmarks.schema [FACES] > table.md

One tenant has FACES faces (100,000), 200 tenants share as many; each face leaves 5 events. A face is the direction of
its person and noise. Directions use some dimensions more than others, as those of real models do. Two faces of one
person have a cosine of about 0.63 (0.53 to 0.74), of two people 0 with a standard deviation of 0.085.

The old schema is that of the scripts this project replaces: random UUIDs, vectors as FLOAT[], no tenant on faces and
vectors, an index on almost every column, no foreign keys, no row security. Both are filled from the same rows, by the
same statements of 1,000 rows, the new one under row security. Searches and queries are timed at the client, one by one.
"""

from __future__ import annotations

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
    from collections.abc import Callable, Iterator

    import psycopg

FACES = 100_000
EVENTS = 5
TENANTS = 200
BATCH = 1000
LARGE = "00000000-0000-7000-8000-000000000000"
SMALL = "00000000-0000-7000-8000-000000000007"
NOISE = 0.0339  # standard deviation; 1 / (1 + 512 * NOISE^2) is the cosine of two faces of one person
SEARCHES = 100
REPEATS = 300

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
    (left('{large}', 24) || lpad((CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i / 2 % {tenants} END)::text, 12, '0'))::uuid
        AS tenant_id,
    hashint8extended(i, 7) AS phash, random()::real AS score, v::halfvec(512) AS half, v::real[]::float8[] AS floats
    FROM (SELECT i, l2_normalize(stage.centre(i) + stage.noise(i, {noise} * (0.7 + 0.6 * random()))) AS v
          FROM generate_series(0, {rows} - 1) i OFFSET 0) made;
ALTER TABLE stage.face ADD PRIMARY KEY (i);
CREATE UNLOGGED TABLE stage.query AS
    SELECT tenant_id, i, l2_normalize(stage.centre(i) + stage.noise(i, {noise} * (0.7 + 0.6 * random()))) AS v FROM (
        SELECT i, tenant_id, row_number() OVER (PARTITION BY tenant_id ORDER BY hashint4(i + 1)) AS place
        FROM stage.face WHERE tenant_id IN ('{large}', '{small}')) picked
    WHERE place <= {searches};
ANALYZE stage.face;
INSERT INTO tenants (id, name, slug) SELECT DISTINCT tenant_id, 'n', 't-' || right(tenant_id::text, 12) FROM stage.face;
INSERT INTO sources (id, tenant_id, name, type) SELECT id, id, 'crawler', 'crawler' FROM tenants;
"""

EVENT = (
    "tenant_id, event_type, event_category, event_data, user_id, session_id, ip_address, user_agent, request_id, "
     "source_service",
     "s.tenant_id, CASE WHEN s.i % 20 = 0 THEN 'policies.update' ELSE 'face_detected' END, "
     "CASE WHEN s.i % 20 = 0 THEN 'data' ELSE 'processing' END, jsonb_build_object('content_id', s.id, 'faces', 1), "
     "'user-' || s.phash % 5000, 'session-' || s.phash % 50000, '10.0.0.0'::inet + (s.phash & 65535), 'worker/1.0', "
     "CASE WHEN s.i % 3 = 0 THEN 'request-' || s.phash % 500000 END, 'face-worker'",
)  # fmt: skip

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
        ("face_id, model_name, model_version, vector, vector_norm",
         "s.old_id, 'buffalo_l', '1', s.floats, s.score + 1"),
        ("tenant_id, face_id, model_name, model_version, embedding, vector_norm",
         "s.tenant_id, s.id, 'buffalo_l', '1', s.half, s.score + 1"),
    ),
    "alerts": (
        ("tenant_id, alert_type, severity, title, status, priority, resolved_at, source_id",
         "s.tenant_id, 'match', 'high', 'seen', CASE WHEN s.i % 20 < 2 THEN 'open' ELSE 'resolved' END, s.i % 7, "
         "CASE WHEN s.i % 20 < 2 THEN NULL ELSE now() END, s.old_id::text"),
        ("tenant_id, alert_type, severity, title, status, priority, resolved_at, subject_type, subject_id",
         "s.tenant_id, 'match', 'high', 'seen', CASE WHEN s.i % 20 < 2 THEN 'open' ELSE 'resolved' END, s.i % 7, "
         "CASE WHEN s.i % 20 < 2 THEN NULL ELSE now() END, 'face', s.id"),
    ),
    "event_audit": (EVENT, EVENT),  # last: the new schema also makes events of what is above
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


@dataclass(frozen=True, slots=True)
class Bench:
    """A connection to the filled database, as a superuser; some things are done as the application's roles."""

    connection: psycopg.Connection[tuple[Any, ...]]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask; a statement without rows answers with none."""
        cursor = self.connection.execute(query)
        return cursor.fetchall() if cursor.description else []

    def become(self, role: str = "", tenant: str = "") -> None:
        """Take on a role of the application and set its tenant; without arguments, be the superuser again."""
        self.rows(f"SET ROLE {role or 'none'}; SET app.tenant_id = '{tenant}'")

    def timed(self, query: str) -> float:
        """Return how many milliseconds a query takes, its rows fetched."""
        start = time.perf_counter()
        self.rows(query)
        return 1000 * (time.perf_counter() - start)

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
        times = "created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now()"
        yield f"CREATE TABLE old.{table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {columns}, {times})"
        for index in OLD_INDEXES[table].split(";"):
            yield f"CREATE INDEX ON old.{table} ({index})"


def say(text: str = "") -> None:
    """Print a line of the table, at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def fill(bench: Bench, table: str, *, faces: int) -> tuple[float, float]:
    """Insert the rows into both schemas in turn, so that what else the machine does falls on both.

    Returns:
        Rows per second of the old and of the new schema. Making the values is not counted.

    """
    copies = EVENTS if table == "event_audit" else 1
    source = f"""SELECT i + n * {faces} AS i, phash + n * 7919 AS phash, id, old_id, tenant_id, score, half, floats
        FROM stage.face, generate_series(0, {copies - 1}) n"""
    for new, (columns, values) in enumerate(ROWS[table]):
        ready = f"stage.ready{new}"
        bench.rows(f"CREATE UNLOGGED TABLE {ready} (i, {columns}) AS SELECT s.i, {values} FROM ({source}) s ORDER BY i")
        bench.rows(f"ALTER TABLE {ready} ADD PRIMARY KEY (i); GRANT SELECT ON {ready} TO PUBLIC")
    bench.rows("CHECKPOINT")
    spent = [0.0, 0.0]
    for first in range(0, faces * copies, BATCH):
        for new, (columns, _) in enumerate(ROWS[table]):
            bench.become("mordeaux_admin" if new else "")
            spent[new] += bench.timed(
                f"INSERT INTO {'' if new else 'old.'}{table} ({columns}) SELECT {columns} FROM stage.ready{new}"
                f" WHERE i >= {first} AND i < {first + BATCH} ORDER BY i"
            )
    bench.become()
    bench.rows(f"DROP TABLE stage.ready0, stage.ready1; ANALYZE old.{table}, {table}")
    return 1000 * faces * copies / spent[0], 1000 * faces * copies / spent[1]


def percentiles(times: list[float]) -> str:
    """Show the median and the 99th percentile."""
    return f"{statistics.median(times):.2f} / {sorted(times)[int(0.99 * len(times))]:.2f}"


def inserts(bench: Bench, rows: int) -> None:
    """Fill both schemas and show rates and sizes."""
    say(f"| insert, {BATCH:,} rows a statement | old rows/s | new rows/s | ratio | old MB (table + indexes) | new MB |")
    say("|---|---:|---:|---:|---:|---:|")
    for table in ROWS:
        names = (f"old.{table}", table)
        before = [bench.size(name) for name in names]
        old, new = fill(bench, table, faces=rows)
        sizes = [
            " + ".join(f"{mb - was:.0f}" for mb, was in zip(bench.size(name), size, strict=True))
            for name, size in zip(names, before, strict=True)
        ]
        say(f"| {table} | {old:,.0f} | {new:,.0f} | {new / old:.2f} | {' | '.join(sizes)} |")
        note(f"{table} filled")


OLD_NEAREST = """SELECT f.id FROM old.embeddings e JOIN old.faces f ON f.id = e.face_id
    JOIN old.content c ON c.id = f.content_id
    WHERE c.tenant_id = '{t}' AND e.model_name = 'buffalo_l' AND e.model_version = '1' ORDER BY {distance} LIMIT 10"""
CAST = "e.vector::vector(512) <=> '{v}'"
PLAIN = """(SELECT -sum(a * b) / sqrt(sum(a * a) * sum(b * b)) FROM unnest(e.vector, '{floats}'::float8[]) u (a, b))"""
NEW_NEAREST = "SELECT face_id FROM app.match_faces('{v}', 10, -1{more})"


def search(bench: Bench, name: str, tenant: str, query: str, *, limit: int = SEARCHES, new: bool = True) -> float:
    """Time a search for each query vector and show it, with its recall against an exact search; return the median."""
    picked = bench.rows(f"SELECT v::text, v::real[]::text FROM stage.query WHERE tenant_id = '{tenant}' LIMIT {limit}")
    times: list[float] = []
    recalls: list[float] = []
    for vector, floats in picked:
        if new:
            bench.become("mordeaux_app", tenant)
        asked = query.replace("{v}", vector).replace("{floats}", floats).replace("{t}", tenant)
        if not times:
            bench.rows(asked)  # warms up
        start = time.perf_counter()
        found = {str(row[0]) for row in bench.rows(asked)}
        times.append(1000 * (time.perf_counter() - start))
        bench.become()
        exact = bench.rows(
            f"SELECT {'id' if new else 'old_id'} FROM stage.face WHERE tenant_id = '{tenant}'"
            f" ORDER BY half <#> '{vector}'::vector::halfvec(512) LIMIT 10"
        )
        best = {str(row[0]) for row in exact}
        recalls.append(len(found & best) / len(best))
    say(f"| {name} | {percentiles(times)} | {statistics.mean(recalls):.3f} |")
    note(name)
    return statistics.median(times)


def searches(bench: Bench, faces: int) -> None:
    """Show searches in the large tenant and in a small one."""
    small = f"tenant of {faces // TENANTS:,}"
    large = f"tenant of {faces:,}"
    old = {"plain": OLD_NEAREST.replace("{distance}", PLAIN), "cast": OLD_NEAREST.replace("{distance}", CAST)}
    new, exact = (NEW_NEAREST.replace("{more}", more) for more in ("", ", exact => true"))
    say("| ten most alike | p50 / p99 ms | recall@10 |")
    say("|---|---:|---:|")
    plain = search(bench, f"old, {large}, FLOAT[] in SQL (3 searches)", LARGE, old["plain"], limit=3, new=False)
    cast = search(bench, f"old, {large}, FLOAT[] cast to vector", LARGE, old["cast"], limit=20, new=False)
    search(bench, f"old, {small}, FLOAT[] cast to vector", SMALL, old["cast"], limit=20, new=False)
    search(bench, f"new, {small}", SMALL, new)
    search(bench, f"new, {large}, exact", LARGE, exact)
    start = time.perf_counter()
    ((statement,),) = bench.rows(f"SELECT app.ann_index_ddl('{LARGE}', 'buffalo_l', '1')")
    bench.rows(statement)
    note(f"index built in {time.perf_counter() - start:.0f} s")
    built = time.perf_counter() - start
    quick = search(bench, f"new, {large}, its own index (built in {built:.0f} s)", LARGE, new)
    search(bench, f"new, {small}, beside that index", SMALL, new)
    say()
    say(f"In the {large}: {plain / quick:,.0f} times as fast as SQL over FLOAT[], {cast / quick:,.0f} times as a cast.")


def interleaved(bench: Bench, variants: dict[str, Callable[[], str]]) -> dict[str, float]:
    """Time variants in turn, so that what else the machine does falls on all of them; return medians in ms."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(REPEATS):
        for name, asked in variants.items():
            query = asked()
            bench.rows("SELECT 1")
            times[name].append(bench.timed(query))
            bench.become()
    return {name: statistics.median(each) for name, each in times.items()}


def queries(bench: Bench) -> None:
    """Show the listed queries, and what row security costs on them."""
    (row,) = bench.rows(
        "SELECT i, old_id, id, phash, phash % 500000 FROM stage.face"
        f" WHERE tenant_id = '{LARGE}' AND i % 3 = 0 ORDER BY i OFFSET 100 LIMIT 1"
    )
    known = {"t": LARGE, **dict(zip(("i", "old_id", "id", "phash", "request"), row, strict=True))}
    say("| listed query, large tenant, p50 ms | old | new | new without row security | row security |")
    say("|---|---:|---:|---:|---:|")
    spent = {"with": 0.0, "without": 0.0}
    for name, (old, new) in QUERIES.items():
        asked_old, asked_new = old.format(**known), new.format(**known)
        explicit = asked_new.replace("[]", f"AND tenant_id = '{LARGE}'")

        def secured(query: str = asked_new.replace("[]", "")) -> str:
            bench.become("mordeaux_app", LARGE)
            return query

        medians = interleaved(
            bench,
            {"old": lambda q=asked_old: q, "with": secured, "without": lambda q=explicit: q},  # type: ignore[misc]
        )
        spent = {key: total + medians[key] for key, total in spent.items()}
        cost = 100 * (medians["with"] / medians["without"] - 1)
        say(f"| {name} | {medians['old']:.2f} | {medians['with']:.2f} | {medians['without']:.2f} | {cost:+.0f} % |")
    say(f"| all of them | | {spent['with']:.2f} | {spent['without']:.2f} | "
        f"{100 * (spent['with'] / spent['without'] - 1):+.0f} % |")  # fmt: skip


def machine(bench: Bench) -> str:
    """Describe where this ran."""
    named = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    cpu = named[1] if named else platform.processor() or platform.machine()
    ((version, vector),) = bench.rows(
        "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"
    )
    return f"{time.strftime('%Y-%m-%d')}, PostgreSQL {version}, pgvector {vector}, {os.cpu_count()} x {cpu}"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def main() -> None:
    """Run it all; what it prints on standard output is Markdown."""
    faces = int(sys.argv[1]) if sys.argv[1:] else FACES
    server_settings = {
        "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "4GB",
        "maintenance_work_mem": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "jit": "off",
        "autovacuum": "off", "effective_cache_size": "8GB",
    }  # fmt: skip
    with postgres.running(18, **server_settings) as server:
        schema: Schema = empty(server, suffix="", owned=False)
        for path in ups():
            apply(schema, path)
        with schema.connect(autocommit=True) as connection:
            bench = Bench(connection)
            connection.execute("SELECT setseed(0.5)")
            numbers = {"rows": 2 * faces, "tenants": TENANTS, "noise": NOISE, "searches": SEARCHES}
            for statement in [*old_schema(), STAGE.format(**numbers, large=LARGE, small=SMALL)]:
                connection.execute(statement)
            connection.execute("GRANT USAGE ON SCHEMA stage TO PUBLIC")
            note("rows are made")
            say(f"{faces:,} faces of one tenant and as many of {TENANTS} small ones; {machine(bench)}.\n")
            inserts(bench, 2 * faces)
            connection.execute("VACUUM ANALYZE")
            say()
            searches(bench, faces)
            say()
            queries(bench)


if __name__ == "__main__":
    main()
