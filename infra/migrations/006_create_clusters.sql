CREATE TABLE clusters (
    id            uuid         NOT NULL DEFAULT app.uuid_v7(),
    tenant_id     uuid         NOT NULL DEFAULT app.current_tenant_id(),
    created_at    timestamptz  NOT NULL DEFAULT now(),
    updated_at    timestamptz  NOT NULL DEFAULT now(),
    size          integer      NOT NULL DEFAULT 0,
    quality_score real,
    is_active     boolean      NOT NULL DEFAULT true,
    name          text,
    description   text,
    cluster_type  text         NOT NULL DEFAULT 'face',
    algorithm     text         NOT NULL,
    model_name    text,
    model_version text,
    parameters    jsonb        NOT NULL DEFAULT '{}',
    centroid      halfvec(512),
    CONSTRAINT clusters_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT clusters_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT clusters_size_check CHECK (size >= 0),
    CONSTRAINT clusters_quality_score_check CHECK (quality_score BETWEEN 0 AND 1),
    CONSTRAINT clusters_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT clusters_cluster_type_check CHECK (cluster_type IN ('face', 'person', 'group')),
    CONSTRAINT clusters_algorithm_check CHECK (
        algorithm IN ('dbscan', 'hdbscan', 'kmeans', 'hierarchical', 'manual')
    ),
    CONSTRAINT clusters_parameters_check CHECK (jsonb_typeof(parameters) = 'object'),
    CONSTRAINT clusters_centroid_check CHECK (l2_norm(centroid) BETWEEN 0.99 AND 1.01),
    CONSTRAINT clusters_centroid_model_check CHECK (
        centroid IS NULL OR (model_name IS NOT NULL AND model_version IS NOT NULL)
    )
);
ALTER TABLE clusters ALTER COLUMN centroid SET STORAGE PLAIN;
CREATE TRIGGER touch_row BEFORE UPDATE ON clusters FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE clusters ENABLE ROW LEVEL SECURITY;
ALTER TABLE clusters FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON clusters AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON clusters TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON clusters TO mordeaux_admin USING (true);

GRANT SELECT ON clusters TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        size, quality_score, is_active, name, description, cluster_type, algorithm, model_name, model_version,
        parameters, centroid
    )
ON clusters TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE clusters IS 'Groups of faces: found by an algorithm, or put together by people.';
COMMENT ON COLUMN clusters.id IS 'Version 7 UUID.';
COMMENT ON COLUMN clusters.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN clusters.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN clusters.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN clusters.size IS 'Number of members, as counted by whoever wrote it.';
COMMENT ON COLUMN clusters.quality_score IS 'How well its faces belong together, 0 to 1.';
COMMENT ON COLUMN clusters.is_active IS 'False: replaced by a later run.';
COMMENT ON COLUMN clusters.name IS 'As people call it.';
COMMENT ON COLUMN clusters.description IS 'Anything worth knowing about it.';
COMMENT ON COLUMN clusters.cluster_type IS 'face: alike faces; person: one identity; group: people who belong together.';
COMMENT ON COLUMN clusters.algorithm IS 'dbscan, hdbscan, kmeans, hierarchical, or manual: by people.';
COMMENT ON COLUMN clusters.model_name IS 'The model whose vectors were grouped; the centroid can only be compared with its vectors.';
COMMENT ON COLUMN clusters.model_version IS 'The version of that model.';
COMMENT ON COLUMN clusters.parameters IS 'JSON object of what the algorithm was run with.';
COMMENT ON COLUMN clusters.centroid IS 'Mean direction of its vectors, of length 1.';
COMMENT ON INDEX clusters_pkey IS 'A cluster by id; the clusters of a tenant, newest first; foreign key of cluster_members.';
