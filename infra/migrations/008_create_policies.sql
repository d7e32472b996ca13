CREATE TABLE policies (
    id              uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id       uuid        NOT NULL DEFAULT app.current_tenant_id(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    effective_from  timestamptz NOT NULL DEFAULT now(),
    effective_until timestamptz,
    priority        integer     NOT NULL DEFAULT 0,
    is_active       boolean     NOT NULL DEFAULT true,
    is_default      boolean     NOT NULL DEFAULT false,
    name            text        NOT NULL,
    description     text,
    policy_type     text        NOT NULL DEFAULT 'access_control',
    created_by      text,
    rules           jsonb       NOT NULL DEFAULT '[]',
    conditions      jsonb       NOT NULL DEFAULT '{}',
    actions         jsonb       NOT NULL DEFAULT '[]',
    CONSTRAINT policies_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT policies_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT policies_name_key UNIQUE (tenant_id, name),
    CONSTRAINT policies_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT policies_policy_type_check CHECK (policy_type IN ('access_control', 'data_retention', 'privacy')),
    CONSTRAINT policies_effective_check CHECK (effective_until > effective_from),
    -- What the application reads: objects, each with a type that it knows. Where there is no type, or no object to have
    -- one, the comparison is unknown.
    CONSTRAINT policies_rules_check CHECK (
        jsonb_typeof(rules) = 'array'
        AND NOT jsonb_path_exists(
            rules,
            'strict $[*] ? (!(@.type == "block" || @.type == "alert" || @.type == "allow")
                || (@.type == "block") is unknown)'
        )
    ),
    CONSTRAINT policies_conditions_check CHECK (jsonb_typeof(conditions) = 'object'),
    CONSTRAINT policies_actions_check CHECK (jsonb_typeof(actions) = 'array')
);
CREATE UNIQUE INDEX policies_default_key ON policies (tenant_id, policy_type) WHERE is_default AND is_active;
CREATE TRIGGER touch_row BEFORE UPDATE ON policies FOR EACH ROW EXECUTE FUNCTION app.touch_row();

ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON policies AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON policies TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON policies TO mordeaux_admin USING (true);

GRANT SELECT ON policies TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT, DELETE,
    UPDATE (
        effective_from, effective_until, priority, is_active, is_default, name, description, policy_type, created_by,
        rules, conditions, actions
    )
ON policies TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE policies IS 'What a tenant wants done about its faces: who may see them, how long they are kept.';
COMMENT ON COLUMN policies.id IS 'Version 7 UUID.';
COMMENT ON COLUMN policies.tenant_id IS 'Whose it is; the current tenant unless given.';
COMMENT ON COLUMN policies.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN policies.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN policies.effective_from IS 'From when it counts.';
COMMENT ON COLUMN policies.effective_until IS 'Until when it counts; NULL: for ever.';
COMMENT ON COLUMN policies.priority IS 'Higher ones are asked first.';
COMMENT ON COLUMN policies.is_active IS 'False: does not count.';
COMMENT ON COLUMN policies.is_default IS 'Counts where no other does; at most one active default of each type.';
COMMENT ON COLUMN policies.name IS 'As people call it, unique within the tenant.';
COMMENT ON COLUMN policies.description IS 'Anything worth knowing about it.';
COMMENT ON COLUMN policies.policy_type IS 'access_control, data_retention or privacy.';
COMMENT ON COLUMN policies.created_by IS 'Who made it, as the application names people.';
COMMENT ON COLUMN policies.rules IS 'JSON array of objects, each with "type": block, alert or allow.';
COMMENT ON COLUMN policies.conditions IS 'JSON object of when it applies.';
COMMENT ON COLUMN policies.actions IS 'JSON array of what is done then.';
COMMENT ON INDEX policies_pkey IS 'A policy by id.';
COMMENT ON INDEX policies_name_key IS 'A policy by name; the policies of a tenant, of which there are few.';
COMMENT ON INDEX policies_default_key IS 'The default of a type; keeps it the only one.';
