CREATE TABLE sources (
    id            uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id     uuid        NOT NULL DEFAULT app.current_tenant_id(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    last_run_at   timestamptz,
    next_run_at   timestamptz,
    name          text        NOT NULL,
    type          text        NOT NULL,
    status        text        NOT NULL DEFAULT 'active',
    url           text,
    error_message text,
    config        jsonb       NOT NULL DEFAULT '{}',
    -- The tenant comes first in every key: a reference to another tenant's row cannot even be written down, and the
    -- tables can be spread over machines by tenant as they are.
    CONSTRAINT sources_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT sources_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT sources_name_key UNIQUE (tenant_id, name),
    CONSTRAINT sources_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    -- Text with a check instead of an enum: an enum's "=" is not leakproof, so under row security no index on it is used.
    CONSTRAINT sources_type_check CHECK (type IN ('crawler', 'upload', 'api', 'webhook')),
    CONSTRAINT sources_status_check CHECK (status IN ('active', 'inactive', 'error', 'paused')),
    CONSTRAINT sources_url_check CHECK (char_length(url) <= 2048),
    CONSTRAINT sources_config_check CHECK (jsonb_typeof(config) = 'object')
);
CREATE INDEX sources_due_idx ON sources (next_run_at) WHERE status = 'active' AND next_run_at IS NOT NULL;
CREATE TRIGGER touch_row BEFORE UPDATE ON sources FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE sources FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON sources AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON sources TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON sources TO mordeaux_admin USING (true);

-- Column by column, so that nobody moves a row to another tenant or rewrites its times.
GRANT SELECT ON sources TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE, UPDATE (last_run_at, next_run_at, name, type, status, url, error_message, config)
ON sources TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE sources IS 'Where content comes from: a crawler, an upload, an API, a webhook.';
COMMENT ON COLUMN sources.id IS 'Version 7 UUID.';
COMMENT ON COLUMN sources.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN sources.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN sources.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN sources.last_run_at IS 'When it last ran.';
COMMENT ON COLUMN sources.next_run_at IS 'When it is due; NULL: not by the clock.';
COMMENT ON COLUMN sources.name IS 'As people call it, unique within the tenant.';
COMMENT ON COLUMN sources.type IS 'crawler, upload, api or webhook.';
COMMENT ON COLUMN sources.status IS 'active, inactive, error or paused; only active ones run.';
COMMENT ON COLUMN sources.url IS 'Where it starts, up to 2048 characters.';
COMMENT ON COLUMN sources.error_message IS 'Why it last failed.';
COMMENT ON COLUMN sources.config IS 'JSON object of what its type needs. No secrets: changes are copied to event_audit.';
COMMENT ON INDEX sources_pkey IS 'A source by id; foreign key of content; removing a tenant.';
COMMENT ON INDEX sources_name_key IS 'A source by name; the list of a tenant in order of name.';
COMMENT ON INDEX sources_due_idx IS 'What is due now, over all tenants (the scheduler, as mordeaux_admin).';
