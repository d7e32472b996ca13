CREATE TABLE faces (
    id               uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id        uuid        NOT NULL DEFAULT app.current_tenant_id(),
    content_id       uuid        NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    phash            bigint,
    face_index       integer     NOT NULL,
    bbox_x           real        NOT NULL,
    bbox_y           real        NOT NULL,
    bbox_width       real        NOT NULL,
    bbox_height      real        NOT NULL,
    quality_score    real,
    confidence_score real,
    age_estimate     smallint,
    gender_estimate  text,
    s3_key_aligned   text,
    s3_key_thumbnail text,
    landmarks        real[],
    emotion          jsonb       NOT NULL DEFAULT '{}',
    attributes       jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT faces_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT faces_content_fkey FOREIGN KEY (tenant_id, content_id)
    REFERENCES content (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT faces_content_index_key UNIQUE (tenant_id, content_id, face_index),
    CONSTRAINT faces_face_index_check CHECK (face_index >= 0),
    -- NaN counts as larger than everything, so "< Infinity" keeps it out as well.
    CONSTRAINT faces_bbox_check CHECK (
        bbox_width > 0 AND bbox_width < 'Infinity' AND bbox_height > 0 AND bbox_height < 'Infinity'
        AND abs(bbox_x) < 'Infinity' AND abs(bbox_y) < 'Infinity'
    ),
    CONSTRAINT faces_quality_score_check CHECK (quality_score BETWEEN 0 AND 1),
    CONSTRAINT faces_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT faces_age_estimate_check CHECK (age_estimate BETWEEN 0 AND 150),
    CONSTRAINT faces_landmarks_check CHECK (array_ndims(landmarks) = 1 AND cardinality(landmarks) % 2 = 0),
    CONSTRAINT faces_emotion_check CHECK (jsonb_typeof(emotion) = 'object'),
    CONSTRAINT faces_attributes_check CHECK (jsonb_typeof(attributes) = 'object')
);
CREATE INDEX faces_phash_idx ON faces (tenant_id, phash) WHERE phash IS NOT NULL;
CREATE TRIGGER touch_row BEFORE UPDATE ON faces FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE faces ENABLE ROW LEVEL SECURITY;
ALTER TABLE faces FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON faces AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON faces TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON faces TO mordeaux_admin USING (true);

GRANT SELECT ON faces TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        content_id, phash, face_index, bbox_x, bbox_y, bbox_width, bbox_height, quality_score, confidence_score,
        age_estimate, gender_estimate, s3_key_aligned, s3_key_thumbnail, landmarks, emotion, attributes
    )
ON faces TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE faces IS 'Faces found in content. They go when their content goes.';
COMMENT ON COLUMN faces.id IS 'Version 7 UUID.';
COMMENT ON COLUMN faces.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN faces.content_id IS 'The content it was found in.';
COMMENT ON COLUMN faces.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN faces.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN faces.phash IS 'Perceptual hash of the crop, 64 bits; near duplicates differ in few of them.';
COMMENT ON COLUMN faces.face_index IS 'Which face of the content, from 0; unique within it, so detecting twice does no harm.';
COMMENT ON COLUMN faces.bbox_x IS 'Left edge of the box around it, in pixels; may lie outside of the picture.';
COMMENT ON COLUMN faces.bbox_y IS 'Upper edge of the box, in pixels; may lie outside of the picture.';
COMMENT ON COLUMN faces.bbox_width IS 'Width of the box, in pixels, above 0.';
COMMENT ON COLUMN faces.bbox_height IS 'Height of the box, in pixels, above 0.';
COMMENT ON COLUMN faces.quality_score IS 'How usable the crop is, 0 to 1.';
COMMENT ON COLUMN faces.confidence_score IS 'How sure the detector is that it is a face, 0 to 1.';
COMMENT ON COLUMN faces.age_estimate IS 'In years.';
COMMENT ON COLUMN faces.gender_estimate IS 'As the model says it.';
COMMENT ON COLUMN faces.s3_key_aligned IS 'Where the aligned crop is kept.';
COMMENT ON COLUMN faces.s3_key_thumbnail IS 'Where the thumbnail is kept.';
COMMENT ON COLUMN faces.landmarks IS 'Points of the face in pixels: x1, y1, x2, y2, ...';
COMMENT ON COLUMN faces.emotion IS 'JSON object of emotion to score.';
COMMENT ON COLUMN faces.attributes IS 'JSON object of anything else the model says.';
COMMENT ON INDEX faces_pkey IS 'A face by id; foreign key of embeddings and cluster_members.';
COMMENT ON INDEX faces_content_index_key IS 'The faces of an item, in order; foreign key to content.';
COMMENT ON INDEX faces_phash_idx IS
'Near duplicates: a range of equal leading bits, then bit_count((phash # $1)::bit(64)) <= 8.';
