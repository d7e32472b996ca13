-- Events are kept by the month: removing an old month is dropping a table, not deleting rows.
CREATE TABLE event_audit (
    id             uuid        NOT NULL DEFAULT app.uuid_v7(),
    tenant_id      uuid        NOT NULL DEFAULT app.current_tenant_id(),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Every table has it; here it cannot differ, because nothing is ever updated.
    updated_at     timestamptz NOT NULL GENERATED ALWAYS AS (created_at) STORED,
    event_type     text        NOT NULL,
    event_category text        NOT NULL,
    severity       text        NOT NULL DEFAULT 'info',
    db_user        text        NOT NULL DEFAULT session_user,
    user_id        text        DEFAULT nullif(current_setting('app.user_id', true), ''),
    session_id     text        DEFAULT nullif(current_setting('app.session_id', true), ''),
    request_id     text        DEFAULT nullif(current_setting('app.request_id', true), ''),
    source_service text        DEFAULT nullif(current_setting('app.service', true), ''),
    ip_address     inet,
    user_agent     text,
    event_data     jsonb       NOT NULL DEFAULT '{}',
    tags           jsonb       NOT NULL DEFAULT '[]',
    -- No foreign key to tenants: what happened outlives the tenant.
    CONSTRAINT event_audit_pkey PRIMARY KEY (tenant_id, created_at, id),
    CONSTRAINT event_audit_event_type_check CHECK (char_length(event_type) BETWEEN 1 AND 100),
    CONSTRAINT event_audit_event_category_check CHECK (
        event_category IN ('authentication', 'processing', 'search', 'admin', 'data', 'security')
    ),
    CONSTRAINT event_audit_severity_check CHECK (severity IN ('debug', 'info', 'warn', 'error', 'critical')),
    CONSTRAINT event_audit_event_data_check CHECK (jsonb_typeof(event_data) = 'object'),
    CONSTRAINT event_audit_tags_check CHECK (jsonb_typeof(tags) = 'array')
)
PARTITION BY RANGE (created_at);
CREATE INDEX event_audit_type_idx ON event_audit (tenant_id, event_type, created_at)
WHERE event_category IN ('authentication', 'admin', 'data', 'security'); -- the rare ones; the others would only cost
CREATE INDEX event_audit_request_idx ON event_audit (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX event_audit_created_idx ON event_audit USING brin (created_at) WITH (pages_per_range = 32);

ALTER TABLE event_audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_audit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON event_audit AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (tenant_id = app.current_tenant_id()) WITH CHECK (tenant_id = app.current_tenant_id());
CREATE POLICY tenant_access ON event_audit TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON event_audit TO mordeaux_admin USING (true);
-- Rows that go by cascade fire their triggers as the owner of the table; without this, no erasure would get through.
CREATE POLICY owner_writes ON event_audit FOR INSERT TO CURRENT_USER WITH CHECK (true);

-- When it happened and who was connected is the database's to say.
GRANT SELECT ON event_audit TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT
    INSERT (
        tenant_id, event_type, event_category, severity, user_id, session_id, request_id, source_service, ip_address,
        user_agent, event_data, tags
    )
ON event_audit TO mordeaux_app, mordeaux_admin;

COMMENT ON TABLE event_audit IS 'What happened, who did it and what changed. Rows are added and never changed; old months are dropped whole.';
COMMENT ON COLUMN event_audit.id IS 'Version 7 UUID.';
COMMENT ON COLUMN event_audit.tenant_id IS 'Whose it is; the current tenant unless given. The platform''s own events carry the UUID of zeros.';
COMMENT ON COLUMN event_audit.created_at IS 'When it happened, by the database''s clock.';
COMMENT ON COLUMN event_audit.updated_at IS 'Always created_at: events are never changed.';
COMMENT ON COLUMN event_audit.event_type IS 'What happened, like policies.update or login.failed.';
COMMENT ON COLUMN event_audit.event_category IS 'authentication, processing, search, admin, data or security; data: written by triggers.';
COMMENT ON COLUMN event_audit.severity IS 'debug, info, warn, error or critical.';
COMMENT ON COLUMN event_audit.db_user IS 'The role that was logged in, by the database''s word.';
COMMENT ON COLUMN event_audit.user_id IS 'Who did it, from the setting app.user_id.';
COMMENT ON COLUMN event_audit.session_id IS 'In which session, from the setting app.session_id.';
COMMENT ON COLUMN event_audit.request_id IS 'In which request, from the setting app.request_id.';
COMMENT ON COLUMN event_audit.source_service IS 'By which service, from the setting app.service.';
COMMENT ON COLUMN event_audit.ip_address IS 'From which address.';
COMMENT ON COLUMN event_audit.user_agent IS 'With which program.';
COMMENT ON COLUMN event_audit.event_data IS
'JSON object. Of a trigger: id, and under "old" and "new" the fields that changed; or count and ids, 1,000 at most.';
COMMENT ON COLUMN event_audit.tags IS 'JSON array to sort events by.';
COMMENT ON INDEX event_audit_pkey IS 'The events of a tenant, newest first; in a time range; export.';
COMMENT ON INDEX event_audit_type_idx IS 'The events of a type in the rare categories: who changed policies, failed log-ins.';
COMMENT ON INDEX event_audit_request_idx IS 'Everything that happened in a request.';
COMMENT ON INDEX event_audit_created_idx IS 'A time range over all tenants.';

CREATE FUNCTION app.forbid_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: events are never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Old months go by: SELECT app.drop_event_audit_partitions(''400 days'');';
END
$$;
COMMENT ON FUNCTION app.forbid_change() IS 'Trigger that keeps event_audit append-only, for the owner and superusers too.';
CREATE TRIGGER forbid_change BEFORE UPDATE OR DELETE ON event_audit
FOR EACH ROW EXECUTE FUNCTION app.forbid_change();
CREATE TRIGGER forbid_truncate BEFORE TRUNCATE ON event_audit
FOR EACH STATEMENT EXECUTE FUNCTION app.forbid_change();

-- A partition that is addressed directly follows its own rules, not those of the table above it: with row security and
-- no policy it shows nothing. Triggers on TRUNCATE are not inherited either.
CREATE FUNCTION app.add_event_audit_partition(name text, bounds text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.event_audit %s', name, bounds);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
        'CREATE TRIGGER forbid_truncate BEFORE TRUNCATE ON public.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION app.forbid_change()', name);
END
$$;
COMMENT ON FUNCTION app.add_event_audit_partition(text, text) IS 'Adds one partition, as closed as the table itself.';

-- Should nobody have called it for months, events have gone to the default partition and are given their months now.
CREATE FUNCTION app.ensure_event_audit_partitions(months_ahead integer DEFAULT 3) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog
SET timezone = 'UTC'
AS $$
DECLARE
    month timestamp := date_trunc('month', now());
    last_month CONSTANT timestamp := month + make_interval(months => months_ahead);
    strays CONSTANT boolean := pg_relation_size('public.event_audit_default') > 0; -- row security would hide them
    columns text;
    partition text;
BEGIN
    IF strays THEN
        LOCK TABLE public.event_audit IN ACCESS EXCLUSIVE MODE;
        ALTER TABLE public.event_audit_default NO FORCE ROW LEVEL SECURITY;
        CREATE TEMPORARY TABLE stray_events ON COMMIT DROP AS TABLE public.event_audit_default;
        DROP TABLE public.event_audit_default;
        PERFORM app.add_event_audit_partition('event_audit_default', 'DEFAULT');
        month := least(month, (SELECT date_trunc('month', min(created_at)) FROM pg_temp.stray_events));
    END IF;
    WHILE month <= last_month LOOP
        partition := to_char(month, '"event_audit_"YYYYMM');
        IF to_regclass('public.' || partition) IS NULL THEN
            PERFORM app.add_event_audit_partition(partition, format(
                'FOR VALUES FROM (%L) TO (%L)', month::timestamptz, (month + interval '1 month')::timestamptz));
            RETURN NEXT partition;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    IF strays THEN
        SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
        WHERE attrelid = 'public.event_audit'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        EXECUTE format('INSERT INTO public.event_audit (%1$s) SELECT %1$s FROM pg_temp.stray_events', columns);
        DROP TABLE pg_temp.stray_events;
    END IF;
END
$$;
COMMENT ON FUNCTION app.ensure_event_audit_partitions(integer) IS
'Makes the partitions of this month and the next ones that are missing, and names them. To be called every month by the owner; an event of a month without one goes to event_audit_default, never lost.';

CREATE FUNCTION app.drop_event_audit_partitions(keep interval) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog
SET timezone = 'UTC'
AS $$
DECLARE
    partition text;
BEGIN
    IF keep IS NULL OR keep < interval '30 days' THEN
        RAISE EXCEPTION 'Events must be kept for 30 days at least, not %', coalesce(keep::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR partition IN
        SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.event_audit'::regclass AND c.relname ~ '^event_audit_[0-9]{6}$'
            AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= now() - keep
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE public.%I', partition);
        RETURN NEXT partition;
    END LOOP;
END
$$;
COMMENT ON FUNCTION app.drop_event_audit_partitions(interval) IS
'Drops the months that ended before the time to keep, and names them. The only way events ever go; for the owner.';

REVOKE ALL ON FUNCTION app.add_event_audit_partition(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION app.ensure_event_audit_partitions(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION app.drop_event_audit_partitions(interval) FROM PUBLIC;

SELECT app.add_event_audit_partition('event_audit_default', 'DEFAULT');
DO $$ BEGIN PERFORM app.ensure_event_audit_partitions(); END $$;

-- What people edit: one event for each row, with the fields that changed.
CREATE FUNCTION app.audit_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    whole CONSTANT jsonb := coalesce(after, before);
    event jsonb := jsonb_build_object('id', whole -> 'id');
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(key, before -> key), jsonb_object_agg(key, value) INTO before, after
        FROM jsonb_each(after) WHERE key <> 'updated_at' AND value IS DISTINCT FROM before -> key;
        IF after IS NULL THEN
            RETURN NULL; -- nothing changed
        END IF;
    END IF;
    IF before IS NOT NULL THEN
        event := event || jsonb_build_object('old', before);
    END IF;
    IF after IS NOT NULL THEN
        event := event || jsonb_build_object('new', after);
    END IF;
    INSERT INTO public.event_audit (tenant_id, event_type, event_category, event_data)
    VALUES (
        CASE WHEN TG_TABLE_NAME = 'tenants' THEN whole ->> 'id' ELSE whole ->> 'tenant_id' END::uuid,
        TG_TABLE_NAME || '.' || lower(TG_OP), 'data', event
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION app.audit_row() IS 'Trigger: an event for each row, with old and new values of the changed fields.';

-- What programs write in bulk: one event for each statement, with the ids (1,000 are about 40 kB).
CREATE FUNCTION app.audit_statement() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO public.event_audit (tenant_id, event_type, event_category, event_data)
    SELECT
        tenant_id, TG_TABLE_NAME || '.' || lower(TG_OP), 'data',
        jsonb_build_object('count', count(*), 'ids', jsonb_agg(id))
    FROM (
        SELECT tenant_id, id, (row_number() OVER (PARTITION BY tenant_id ORDER BY id) - 1) / 1000 AS chunk
        FROM changed
    ) AS numbered
    GROUP BY tenant_id, chunk;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION app.audit_statement() IS 'Trigger: an event for each statement and tenant, with count and ids, 1,000 at most in one.';

CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON tenants
FOR EACH ROW EXECUTE FUNCTION app.audit_row();
CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON sources
FOR EACH ROW EXECUTE FUNCTION app.audit_row();
CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON policies
FOR EACH ROW EXECUTE FUNCTION app.audit_row();

-- Of content and clusters, what comes and goes; and edits, but not the progress that workers note (status, size, ...).
CREATE TRIGGER audit_insert AFTER INSERT ON content REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_delete AFTER DELETE ON content REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_edit AFTER UPDATE OF
    source_id, external_id, title, description, url, site, s3_key_raw, sha256, metadata
ON content FOR EACH ROW EXECUTE FUNCTION app.audit_row();
CREATE TRIGGER audit_insert AFTER INSERT ON clusters REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_delete AFTER DELETE ON clusters REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_edit AFTER UPDATE OF is_active, name, description, cluster_type, algorithm
ON clusters FOR EACH ROW EXECUTE FUNCTION app.audit_row();

-- Of faces and vectors, removal by itself; with their content they are part of its event (depth above 0: a cascade).
CREATE TRIGGER audit_delete AFTER DELETE ON faces REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION app.audit_statement();
CREATE TRIGGER audit_delete AFTER DELETE ON embeddings REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION app.audit_statement();

-- Of memberships, those that people made or took away.
CREATE TRIGGER audit_insert AFTER INSERT ON cluster_members
FOR EACH ROW WHEN (NEW.added_by <> 'algorithm') EXECUTE FUNCTION app.audit_row();
CREATE TRIGGER audit_edit AFTER UPDATE ON cluster_members
FOR EACH ROW WHEN (OLD.added_by <> 'algorithm' OR NEW.added_by <> 'algorithm') EXECUTE FUNCTION app.audit_row();
CREATE TRIGGER audit_delete AFTER DELETE ON cluster_members
FOR EACH ROW WHEN (OLD.added_by <> 'algorithm') EXECUTE FUNCTION app.audit_row();
