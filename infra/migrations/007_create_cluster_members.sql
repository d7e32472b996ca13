CREATE TABLE cluster_members (
    id                uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id         uuid        NOT NULL DEFAULT app.current_tenant_id(),
    cluster_id        uuid        NOT NULL,
    face_id           uuid        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    similarity_score  real        NOT NULL,
    distance_score    real,
    confidence_score  real,
    is_representative boolean     NOT NULL DEFAULT false,
    added_by          text        NOT NULL DEFAULT 'algorithm',
    metadata          jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT cluster_members_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT cluster_members_cluster_fkey FOREIGN KEY (tenant_id, cluster_id)
    REFERENCES clusters (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT cluster_members_face_fkey FOREIGN KEY (tenant_id, face_id)
    REFERENCES faces (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT cluster_members_pair_key UNIQUE (tenant_id, cluster_id, face_id),
    CONSTRAINT cluster_members_similarity_score_check CHECK (similarity_score BETWEEN 0 AND 1),
    CONSTRAINT cluster_members_distance_score_check CHECK (distance_score >= 0 AND distance_score < 'Infinity'),
    CONSTRAINT cluster_members_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT cluster_members_added_by_check CHECK (added_by IN ('algorithm', 'manual', 'user')),
    CONSTRAINT cluster_members_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
);
CREATE INDEX cluster_members_face_idx ON cluster_members (tenant_id, face_id);
CREATE TRIGGER touch_row BEFORE UPDATE ON cluster_members FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE cluster_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_members FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON cluster_members AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON cluster_members TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON cluster_members TO mordeaux_admin USING (true);

GRANT SELECT ON cluster_members TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        cluster_id, face_id, similarity_score, distance_score, confidence_score, is_representative, added_by, metadata
    )
ON cluster_members TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE cluster_members IS 'Which face belongs to which cluster.';
COMMENT ON COLUMN cluster_members.id IS 'Version 7 UUID.';
COMMENT ON COLUMN cluster_members.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN cluster_members.cluster_id IS 'The cluster; its removal removes the membership.';
COMMENT ON COLUMN cluster_members.face_id IS 'The face, once in a cluster; its removal removes the membership.';
COMMENT ON COLUMN cluster_members.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN cluster_members.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN cluster_members.similarity_score IS 'How alike face and cluster are, 0 to 1.';
COMMENT ON COLUMN cluster_members.distance_score IS 'How far apart they are, in the algorithm''s own measure, from 0.';
COMMENT ON COLUMN cluster_members.confidence_score IS 'How sure the algorithm is, 0 to 1.';
COMMENT ON COLUMN cluster_members.is_representative IS 'True: a face to show for the cluster.';
COMMENT ON COLUMN cluster_members.added_by IS 'algorithm, manual or user; what people do here is audited.';
COMMENT ON COLUMN cluster_members.metadata IS 'JSON object of anything else.';
COMMENT ON INDEX cluster_members_pkey IS 'A membership by id.';
COMMENT ON INDEX cluster_members_pair_key IS 'The faces of a cluster; foreign key to clusters.';
COMMENT ON INDEX cluster_members_face_idx IS 'The clusters of a face; foreign key to faces.';

-- Here and not in 005, because this is the first file at which everything that a match shows is there.
-- The tenant goes into the statement as a literal and not as a parameter: only so does the planner see that the
-- tenant's own approximate index fits, and only so no plan made for one tenant is used for another (11 to 60 times slower).
CREATE FUNCTION app.match_faces(
    query         halfvec,
    k             integer     DEFAULT 10,
    min_score     real        DEFAULT 0,
    model_name    text        DEFAULT 'buffalo_l',
    model_version text        DEFAULT '1',
    exact         boolean     DEFAULT false,
    site          text        DEFAULT NULL,
    ts_from       timestamptz DEFAULT NULL,
    ts_to         timestamptz DEFAULT NULL
)
RETURNS TABLE (content_id uuid, face_id uuid, score real, thumb_s3_key text, cluster_id uuid)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    tenant CONSTANT uuid := app.current_tenant_id();
    direction CONSTANT public.halfvec := public.l2_normalize(query);
    filtered CONSTANT boolean := site IS NOT NULL OR ts_from IS NOT NULL OR ts_to IS NOT NULL;
    ef_search CONSTANT text := current_setting('hnsw.ef_search');
    iterative_scan CONSTANT text := current_setting('hnsw.iterative_scan');
BEGIN
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'No tenant is set' USING ERRCODE = 'insufficient_privilege',
            HINT = 'In the transaction of the search: SET LOCAL app.tenant_id = ''<uuid>'';';
    ELSIF k IS NULL OR k NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'k is %, it must be 1 to 1000', coalesce(k::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- Not by SET in the head of the function: an unknown name there stops a restore by anybody but a superuser.
    PERFORM set_config('hnsw.ef_search', '200', true), set_config('hnsw.iterative_scan', 'strict_order', true);
    RETURN QUERY EXECUTE format(
        'WITH nearest AS MATERIALIZED (
             SELECT e.face_id, e.embedding OPERATOR(public.<#>) $1 AS distance
             FROM public.embeddings AS e%6$s
             WHERE e.tenant_id = %1$L AND e.model_name = %2$L AND e.model_version = %3$L
             ORDER BY (e.embedding OPERATOR(public.<#>) $1)%4$s LIMIT %5$s)
         SELECT f.content_id, f.id, least(1, greatest(0, -n.distance))::real, f.s3_key_thumbnail,
             (SELECT m.cluster_id FROM public.cluster_members AS m
              WHERE m.tenant_id = %1$L AND m.face_id = f.id ORDER BY m.similarity_score DESC, m.id LIMIT 1)
         FROM nearest AS n JOIN public.faces AS f ON f.tenant_id = %1$L AND f.id = n.face_id
         WHERE -n.distance >= $2 ORDER BY n.distance, f.id',
        tenant, model_name, model_version,
        CASE WHEN exact THEN ' + 0' END, -- no index is ordered by this, so every vector is looked at
        k,
        CASE WHEN filtered THEN format('
             JOIN public.faces AS fc ON fc.tenant_id = %1$L AND fc.id = e.face_id
             JOIN public.content AS c ON c.tenant_id = %1$L AND c.id = fc.content_id
             AND ($3 IS NULL OR c.site = $3) AND ($4 IS NULL OR c.fetch_ts >= $4) AND ($5 IS NULL OR c.fetch_ts < $5)',
            tenant) END
    ) USING direction, min_score, site, ts_from, ts_to;
    PERFORM set_config('hnsw.ef_search', ef_search, true), set_config('hnsw.iterative_scan', iterative_scan, true);
END
$$;
COMMENT ON FUNCTION app.match_faces(halfvec, integer, real, text, text, boolean, text, timestamptz, timestamptz) IS
'The k faces of the current tenant that look most like the query, best first, score 0 to 1 (cosine). Exact unless the tenant has an index made by app.ann_index_ddl; exact => true ignores that one, which is better with a filter that few pass.';
