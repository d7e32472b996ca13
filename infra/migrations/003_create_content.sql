CREATE TABLE content (
    id                      uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id               uuid        NOT NULL DEFAULT app.current_tenant_id(),
    source_id               uuid        NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    fetch_ts                timestamptz NOT NULL DEFAULT now(),
    processing_started_at   timestamptz,
    processing_completed_at timestamptz,
    file_size               bigint,
    status                  text        NOT NULL DEFAULT 'pending',
    external_id             text,
    title                   text,
    description             text,
    url                     text,
    site                    text,
    s3_key_raw              text        NOT NULL,
    s3_key_processed        text,
    content_type            text,
    mime_type               text,
    error_message           text,
    sha256                  bytea,
    metadata                jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT content_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT content_source_fkey FOREIGN KEY (tenant_id, source_id) REFERENCES sources (tenant_id, id),
    CONSTRAINT content_status_check CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'skipped')),
    CONSTRAINT content_processing_check CHECK (processing_completed_at >= processing_started_at),
    CONSTRAINT content_file_size_check CHECK (file_size >= 0),
    CONSTRAINT content_url_check CHECK (char_length(url) <= 2048),
    CONSTRAINT content_s3_key_raw_check CHECK (octet_length(s3_key_raw) BETWEEN 1 AND 1024), -- S3's own limit
    CONSTRAINT content_sha256_check CHECK (octet_length(sha256) = 32),
    CONSTRAINT content_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
)
-- No index holds the status, and a tenth of each page stays free: a change of status is written into the same page and
-- touches no index.
WITH (fillfactor = 90);
CREATE INDEX content_source_idx ON content (tenant_id, source_id);
CREATE UNIQUE INDEX content_external_key ON content (tenant_id, source_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX content_sha256_idx ON content USING hash (sha256);
CREATE INDEX content_created_idx ON content USING brin (created_at) WITH (pages_per_range = 32);
CREATE TRIGGER touch_row BEFORE UPDATE ON content FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE content ENABLE ROW LEVEL SECURITY;
ALTER TABLE content FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON content AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON content TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON content TO mordeaux_admin USING (true);

GRANT SELECT ON content TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        source_id, fetch_ts, processing_started_at, processing_completed_at, file_size, status, external_id, title,
        description, url, site, s3_key_raw, s3_key_processed, content_type, mime_type, error_message, sha256, metadata
    )
ON content TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE content IS 'Pictures and other files that were fetched, and how far their processing has come.';
COMMENT ON COLUMN content.id IS 'Version 7 UUID.';
COMMENT ON COLUMN content.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN content.source_id IS 'The source it came from.';
COMMENT ON COLUMN content.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN content.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN content.fetch_ts IS 'When it was fetched.';
COMMENT ON COLUMN content.processing_started_at IS 'When a worker took it.';
COMMENT ON COLUMN content.processing_completed_at IS 'When the worker was done with it.';
COMMENT ON COLUMN content.file_size IS 'In bytes.';
COMMENT ON COLUMN content.status IS 'pending, processing, completed, failed or skipped.';
COMMENT ON COLUMN content.external_id IS 'Its id at the source; unique within the source, so fetching twice does no harm.';
COMMENT ON COLUMN content.title IS 'Title at the source.';
COMMENT ON COLUMN content.description IS 'Description at the source.';
COMMENT ON COLUMN content.url IS 'Where it was found, up to 2048 characters.';
COMMENT ON COLUMN content.site IS 'The site it was found on, as searches filter by it; written by the crawler.';
COMMENT ON COLUMN content.s3_key_raw IS 'Where the file is kept as it was fetched.';
COMMENT ON COLUMN content.s3_key_processed IS 'Where the processed file is kept.';
COMMENT ON COLUMN content.content_type IS 'What it is to the application: image, video, ...';
COMMENT ON COLUMN content.mime_type IS 'What it is by its bytes: image/jpeg, ...';
COMMENT ON COLUMN content.error_message IS 'Why processing failed.';
COMMENT ON COLUMN content.sha256 IS 'SHA-256 of the file, 32 bytes.';
COMMENT ON COLUMN content.metadata IS 'JSON object of anything else.';
COMMENT ON INDEX content_pkey IS
'An item by id; the newest first (id DESC); a time range (app.uuid_v7_floor); foreign key of faces.';
COMMENT ON INDEX content_source_idx IS 'The items of a source; foreign key to sources.';
COMMENT ON INDEX content_external_key IS 'Was this fetched before? Lets a fetch be repeated (ON CONFLICT).';
COMMENT ON INDEX content_sha256_idx IS 'Were these bytes seen before? With the tenant in the query.';
COMMENT ON INDEX content_created_idx IS 'A time range over all tenants: what got stuck, what is too old to keep.';
