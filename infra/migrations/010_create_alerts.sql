CREATE TABLE alerts (
    id               uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id        uuid        NOT NULL DEFAULT app.current_tenant_id(),
    subject_id       uuid,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    acknowledged_at  timestamptz,
    resolved_at      timestamptz,
    priority         integer     NOT NULL DEFAULT 0,
    alert_type       text        NOT NULL,
    severity         text        NOT NULL,
    status           text        NOT NULL DEFAULT 'open',
    title            text        NOT NULL,
    description      text,
    message          text,
    source_service   text,
    subject_type     text,
    assigned_to      text,
    acknowledged_by  text,
    resolved_by      text,
    resolution_notes text,
    alert_data       jsonb       NOT NULL DEFAULT '{}',
    tags             jsonb       NOT NULL DEFAULT '[]',
    metadata         jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT alerts_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT alerts_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT alerts_alert_type_check CHECK (char_length(alert_type) BETWEEN 1 AND 100),
    CONSTRAINT alerts_severity_check CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    CONSTRAINT alerts_status_check CHECK (
        status IN ('open', 'acknowledged', 'investigating', 'resolved', 'dismissed')
    ),
    CONSTRAINT alerts_title_check CHECK (char_length(title) BETWEEN 1 AND 255),
    CONSTRAINT alerts_subject_type_check CHECK (
        subject_type IN ('source', 'content', 'face', 'cluster', 'policy', 'user', 'system')
    ),
    -- Users and the system may have no id here; anything else is named by type and id together.
    CONSTRAINT alerts_subject_check CHECK (
        CASE
            WHEN subject_type IS NULL THEN subject_id IS NULL
            ELSE subject_id IS NOT NULL OR subject_type IN ('user', 'system')
        END
    ),
    CONSTRAINT alerts_resolved_check CHECK ((status IN ('resolved', 'dismissed')) = (resolved_at IS NOT NULL)),
    CONSTRAINT alerts_alert_data_check CHECK (jsonb_typeof(alert_data) = 'object'),
    CONSTRAINT alerts_tags_check CHECK (jsonb_typeof(tags) = 'array'),
    CONSTRAINT alerts_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
);
CREATE INDEX alerts_open_idx ON alerts (tenant_id, priority DESC, id DESC)
WHERE status IN ('open', 'acknowledged', 'investigating');
CREATE INDEX alerts_subject_idx ON alerts (tenant_id, subject_id) WHERE subject_id IS NOT NULL;
CREATE TRIGGER touch_row BEFORE UPDATE ON alerts FOR EACH ROW EXECUTE FUNCTION app.touch_row();
-- Programs raise alerts, many at a time; people work on them one by one.
CREATE TRIGGER audit_insert AFTER INSERT ON alerts REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_row AFTER UPDATE OR DELETE ON alerts
FOR EACH ROW EXECUTE FUNCTION app.audit_row();

ALTER TABLE alerts ENABLE ROW LEVEL SECURITY;
ALTER TABLE alerts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON alerts AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON alerts TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON alerts TO mordeaux_admin USING (true);

GRANT SELECT ON alerts TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        subject_id, acknowledged_at, resolved_at, priority, alert_type, severity, status, title, description, message,
        source_service, subject_type, assigned_to, acknowledged_by, resolved_by, resolution_notes, alert_data, tags,
        metadata
    )
ON alerts TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE alerts IS 'What somebody should look at, and what became of it.';
COMMENT ON COLUMN alerts.id IS 'Version 7 UUID.';
COMMENT ON COLUMN alerts.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN alerts.subject_id IS 'The id of what it is about. No foreign key: an alert outlives its subject.';
COMMENT ON COLUMN alerts.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN alerts.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN alerts.acknowledged_at IS 'When somebody took notice.';
COMMENT ON COLUMN alerts.resolved_at IS 'When it was resolved or dismissed; set exactly then.';
COMMENT ON COLUMN alerts.priority IS 'Higher ones come first in the list.';
COMMENT ON COLUMN alerts.alert_type IS 'What kind it is, as the application names them.';
COMMENT ON COLUMN alerts.severity IS 'low, medium, high or critical.';
COMMENT ON COLUMN alerts.status IS 'open, acknowledged, investigating, resolved or dismissed.';
COMMENT ON COLUMN alerts.title IS 'One line, 1 to 255 characters.';
COMMENT ON COLUMN alerts.description IS 'What it means.';
COMMENT ON COLUMN alerts.message IS 'What was reported, word for word.';
COMMENT ON COLUMN alerts.source_service IS 'The service that raised it.';
COMMENT ON COLUMN alerts.subject_type IS 'What it is about: source, content, face, cluster, policy, user or system.';
COMMENT ON COLUMN alerts.assigned_to IS 'Who looks after it.';
COMMENT ON COLUMN alerts.acknowledged_by IS 'Who took notice.';
COMMENT ON COLUMN alerts.resolved_by IS 'Who resolved or dismissed it.';
COMMENT ON COLUMN alerts.resolution_notes IS 'What was done about it.';
COMMENT ON COLUMN alerts.alert_data IS 'JSON object of the facts.';
COMMENT ON COLUMN alerts.tags IS 'JSON array to sort alerts by.';
COMMENT ON COLUMN alerts.metadata IS 'JSON object of anything else.';
COMMENT ON INDEX alerts_pkey IS 'An alert by id.';
COMMENT ON INDEX alerts_open_idx IS 'The open alerts of a tenant, most urgent first.';
COMMENT ON INDEX alerts_subject_idx IS 'The alerts about one thing.';
