"""How fast the schema is, beside the old one, in one run on a server of its own. By hand:

    python -m tests.benchmarks.schema [FACES] > table.md

One tenant has FACES faces (100,000), 200 tenants share as many. Faces come from identities: a random direction and noise
around it, so that two faces of one person have a cosine of about 0.63, and of two people about 0.

The old schema is that of the scripts this project replaces: random UUIDs, vectors as FLOAT[], no tenant on faces and
vectors, an index on almost every column, no foreign keys, no row security. Both are filled from the same rows, by the
same statements of 1,000 rows, the new one under row security. Searches and queries are timed at the client, one by one.
"""

from __future__ import annotations

FACES = 100_000
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
CREATE UNLOGGED TABLE stage.identity AS
    SELECT n, l2_normalize((SELECT array_agg(random_normal() + 0 * n) FROM generate_series(1, 512))::vector(512)) AS centre
    FROM generate_series(0, {identities} - 1) n;
ALTER TABLE stage.identity ADD PRIMARY KEY (n);
CREATE UNLOGGED TABLE stage.face AS
    SELECT i, CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + (i / 2) % {tenants} END AS tenant, app.uuid_v7() AS id, gen_random_uuid() AS old_id,
    l2_normalize(d.centre + (SELECT array_agg(random_normal(0, {noise}) + 0 * i) FROM generate_series(1, 512))::vector(512)) AS v,
    hashint8extended(i, 7) AS phash, random()::real AS score
    FROM generate_series(0, {rows} - 1) i JOIN stage.identity d ON d.n = hashint4(i) & 2147483647 % {identities};
ALTER TABLE stage.face ADD tenant_id uuid, ADD half halfvec(512), ADD floats float8[];
UPDATE stage.face SET tenant_id = ('00000000-0000-7000-8000-' || lpad(tenant::text, 12, '0'))::uuid,
    half = v::halfvec(512), floats = v::real[]::float8[];
ALTER TABLE stage.face ADD PRIMARY KEY (i);
CREATE UNLOGGED TABLE stage.query AS
    SELECT f.tenant_id, l2_normalize(d.centre + (SELECT array_agg(random_normal(0, {noise}) + 0 * f.i) FROM generate_series(1, 512))::vector(512)) AS v
    FROM stage.face f JOIN stage.identity d ON d.n = hashint4(f.i) & 2147483647 % {identities}
    WHERE f.tenant_id IN ('{large}', '{small}') AND f.i < {rows} / 2 OR f.tenant_id = '{small}';
ANALYZE stage.face;
INSERT INTO tenants (id, name, slug)
    SELECT DISTINCT tenant_id, 'n', 't-' || right(tenant_id::text, 12) FROM stage.face;
INSERT INTO sources (id, tenant_id, name, type) SELECT id, id, 'crawler', 'crawler' FROM tenants;
"""
