-- A large tenant gets an index of its own while the application runs: see app.ann_index_ddl() below.
-- migrate: run-time INDEX public.embeddings_ann_*

CREATE TABLE embeddings (
    id            uuid         NOT NULL DEFAULT app.uuid_v7(),
    tenant_id     uuid         NOT NULL DEFAULT app.current_tenant_id(),
    face_id       uuid         NOT NULL,
    created_at    timestamptz  NOT NULL DEFAULT now(),
    updated_at    timestamptz  NOT NULL DEFAULT now(),
    vector_norm   real,
    model_name    text         NOT NULL,
    model_version text         NOT NULL,
    embedding     halfvec(512) NOT NULL,
    metadata      jsonb        NOT NULL DEFAULT '{}',
    CONSTRAINT embeddings_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT embeddings_face_fkey FOREIGN KEY (tenant_id, face_id)
    REFERENCES faces (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT embeddings_face_model_key UNIQUE (tenant_id, face_id, model_name, model_version),
    CONSTRAINT embeddings_vector_norm_check CHECK (vector_norm > 0 AND vector_norm < 'Infinity'),
    -- Of vectors of length 1, the inner product is the cosine, and cheaper.
    CONSTRAINT embeddings_embedding_check CHECK (l2_norm(embedding) BETWEEN 0.99 AND 1.01),
    CONSTRAINT embeddings_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
);
-- Its 1 kB stays in the row: a scan of all vectors of a tenant need not fetch each from elsewhere.
ALTER TABLE embeddings ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE TRIGGER touch_row BEFORE UPDATE ON embeddings FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE embeddings ENABLE ROW LEVEL SECURITY;
ALTER TABLE embeddings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON embeddings AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON embeddings TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON embeddings TO mordeaux_admin USING (true);

GRANT SELECT ON embeddings TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE, UPDATE (face_id, vector_norm, model_name, model_version, embedding, metadata)
ON embeddings TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE embeddings IS 'What a model makes of a face: 512 numbers. Alike faces have vectors of similar direction.';
COMMENT ON COLUMN embeddings.id IS 'Version 7 UUID.';
COMMENT ON COLUMN embeddings.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN embeddings.face_id IS 'The face it describes; one vector for each model and version.';
COMMENT ON COLUMN embeddings.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN embeddings.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN embeddings.vector_norm IS 'Length of the vector before it was brought to 1; some models put quality into it.';
COMMENT ON COLUMN embeddings.model_name IS 'The model that made it. Vectors of different models cannot be compared.';
COMMENT ON COLUMN embeddings.model_version IS 'The version of that model.';
COMMENT ON COLUMN embeddings.embedding IS 'The vector, of length 1 (within 1 %): l2_normalize() before storing.';
COMMENT ON COLUMN embeddings.metadata IS 'JSON object of anything else.';
COMMENT ON INDEX embeddings_pkey IS 'Who looks like this, exactly: all vectors of the tenant, and of no other; a vector by id.';
COMMENT ON INDEX embeddings_face_model_key IS 'The vector of a face; foreign key to faces.';

-- One index over the vectors of all tenants finds too little for small tenants and makes every insert of everybody
-- slow. So a search reads all vectors of its tenant, which is exact and quick up to some 20,000, and a larger tenant
-- gets an index of its own, made while the application runs. These two say how.
CREATE FUNCTION app.ann_index_name(tenant uuid, model_name text, model_version text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN 'embeddings_ann_' || left(md5(tenant::text || '/' || model_name || '/' || model_version), 24);
COMMENT ON FUNCTION app.ann_index_name(uuid, text, text) IS
'The name of the approximate index over the vectors of one tenant and model; a long name would be cut.';

CREATE FUNCTION app.ann_index_ddl(tenant uuid, model_name text, model_version text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN format(
    'CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON public.embeddings USING hnsw (embedding public.halfvec_ip_ops)'
    ' WITH (m = 24, ef_construction = 128) WHERE tenant_id = %L AND model_name = %L AND model_version = %L',
    app.ann_index_name(tenant, model_name, model_version), tenant, model_name, model_version
);
COMMENT ON FUNCTION app.ann_index_ddl(uuid, text, text) IS
'The statement that makes that index, to be run by the owner outside of a transaction once a tenant passes 20,000 vectors.';
