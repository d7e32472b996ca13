-- What every table stands on (pgvector, the roles, the schema "app" with the shared functions), and the tenants.

-- Asked first, so that a refusal comes before anything is made and says how to get what is missing.
DO $$
DECLARE
    wanted CONSTANT text := '0.8.2'; -- the first without CVE-2026-3172
    roles CONSTANT text[] := ARRAY['mordeaux_app', 'mordeaux_readonly', 'mordeaux_admin'];
    available text := (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector');
    installed text;
    place text;
    missing text;
BEGIN
    SELECT e.extversion, e.extnamespace::regnamespace::text INTO installed, place
    FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector';

    IF installed IS NULL AND available IS NULL THEN
        RAISE EXCEPTION 'pgvector is not installed on this server'
            USING ERRCODE = 'feature_not_supported',
            DETAIL = format('Embeddings are stored in a type of the extension "vector", version %s or newer.', wanted),
            HINT = 'The image pgvector/pgvector:pg18 brings it, and so does the package postgresql-18-pgvector'
                ' (for another PostgreSQL, its number instead of 18).';
    ELSIF string_to_array(coalesce(installed, available), '.')::int[] < string_to_array(wanted, '.')::int[] THEN
        RAISE EXCEPTION 'pgvector % is too old, % or newer is needed', coalesce(installed, available), wanted
            USING ERRCODE = 'feature_not_supported',
            DETAIL = format('Older ones can leak data while an index is built (CVE-2026-3172). This database has %s, the server offers %s.',
                coalesce(installed, 'none'), coalesce(available, 'none')),
            HINT = 'The image pgvector/pgvector:pg18 or the package postgresql-18-pgvector brings a newer one;'
                ' a database that has an old one then needs: ALTER EXTENSION vector UPDATE;';
    ELSIF place <> 'public' THEN
        RAISE EXCEPTION 'pgvector is installed in the schema %, it must be in public', place
            USING ERRCODE = 'feature_not_supported',
            DETAIL = 'Migrations run with search_path = public, where its types must be found.',
            HINT = 'As its owner: ALTER EXTENSION vector SET SCHEMA public;';
    END IF;

    SELECT string_agg(format('CREATE ROLE %I NOLOGIN;', r), ' ') INTO missing
    FROM unnest(roles) AS r WHERE to_regrole(r) IS NULL;
    IF missing IS NOT NULL AND NOT (SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'The role % may not create the roles that this database needs', current_user
            USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'The application, its reports and the platform connect as members of three roles of the whole server.',
            HINT = format('Ask an administrator of the server to run this once, then try again: %s', missing);
    END IF;

    IF installed IS NULL THEN
        BEGIN
            CREATE EXTENSION vector WITH SCHEMA public;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'The role % may not install pgvector in this database', current_user
                USING ERRCODE = 'insufficient_privilege', DETAIL = SQLERRM,
                HINT = 'Ask an administrator of the server to run this once in this database, then try again: CREATE EXTENSION vector;';
        END;
        -- By these words 001.down knows that the extension is ours to take away.
        COMMENT ON EXTENSION vector IS 'Vectors and the distances between them (pgvector). Made by migration 001.';
    END IF;
    -- Roles belong to the whole server, other databases may use them: made when missing, never dropped.
    IF missing IS NOT NULL THEN
        EXECUTE missing;
    END IF;
END
$$;

-- Nobody but the owner makes things here. The default since PostgreSQL 15; older databases that were upgraded still allow it.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
COMMENT ON SCHEMA app IS 'Functions that the tables and the application share.';

-- Keys that grow with time fill index pages in order: more rows a second, less WAL and a smaller index than random ones.
-- PostgreSQL 18 makes them itself; before, 48 bits of clock are laid over a random UUID, and version 4 becomes 7.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION app.uuid_v7() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE
        RETURN pg_catalog.uuidv7();
    ELSE
        CREATE FUNCTION app.uuid_v7() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE
        RETURN encode(
            set_bit(set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(EPOCH FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6
                ), 52, 1), 53, 1), 'hex')::uuid;
    END IF;
END
$$;
COMMENT ON FUNCTION app.uuid_v7() IS 'A new UUID of version 7 (RFC 9562): ids made later sort later, to the millisecond.';

CREATE FUNCTION app.uuid_v7_floor(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (lpad(to_hex(floor(extract(EPOCH FROM moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
COMMENT ON FUNCTION app.uuid_v7_floor(timestamptz) IS
'The smallest version 7 UUID of a moment: turns a time range into a range of ids, which the primary key serves.';

-- NULLIF, because a setting made by SET LOCAL is '' and not NULL once its transaction is over. One SQL expression and
-- no SET of its own, because only so the planner puts it in place of the call and it costs nothing on look-ups.
CREATE FUNCTION app.current_tenant_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
COMMENT ON FUNCTION app.current_tenant_id() IS
'The tenant of this transaction, from SET LOCAL app.tenant_id. NULL when none is set: then no row is seen or written.';

CREATE FUNCTION app.touch_row() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.created_at := OLD.created_at;
    NEW.updated_at := pg_catalog.clock_timestamp();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION app.touch_row() IS 'Trigger of every table that is updated: moves updated_at, keeps created_at.';

CREATE TABLE tenants (
    id          uuid        NOT NULL DEFAULT app.uuid_v7(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    is_active   boolean     NOT NULL DEFAULT true,
    name        text        NOT NULL,
    slug        text        NOT NULL,
    description text,
    settings    jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_slug_key UNIQUE (slug),
    CONSTRAINT tenants_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT tenants_slug_check CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$'),
    CONSTRAINT tenants_settings_check CHECK (jsonb_typeof(settings) = 'object')
);
CREATE TRIGGER touch_row BEFORE UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION app.touch_row();

-- The wall between tenants. The restrictive policy is the wall itself: whatever permissive policy is added one day, it
-- still holds. Row security shows nothing without a permissive one, hence the second. FORCE binds the owner as well.
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tenants AS RESTRICTIVE TO mordeaux_app, mordeaux_readonly
USING (id = app.current_tenant_id()) WITH CHECK (id = app.current_tenant_id());
CREATE POLICY tenant_access ON tenants TO mordeaux_app, mordeaux_readonly USING (true);
CREATE POLICY platform_access ON tenants TO mordeaux_admin USING (true);

-- Only the platform makes tenants: a slug that is taken would tell a tenant about another one.
GRANT SELECT ON tenants TO mordeaux_app, mordeaux_readonly, mordeaux_admin;
GRANT UPDATE (name, description, settings) ON tenants TO mordeaux_app;
GRANT INSERT, DELETE, UPDATE (is_active, name, slug, description, settings) ON tenants TO mordeaux_admin;

COMMENT ON TABLE tenants IS 'Customers. Every other row belongs to exactly one of them.';
COMMENT ON COLUMN tenants.id IS 'Version 7 UUID; what other tables call tenant_id.';
COMMENT ON COLUMN tenants.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN tenants.updated_at IS 'When the row was last changed; kept by a trigger.';
COMMENT ON COLUMN tenants.is_active IS 'False: its people may not log in. Its data stays.';
COMMENT ON COLUMN tenants.name IS 'As people read it, 1 to 255 characters.';
COMMENT ON COLUMN tenants.slug IS 'As addresses spell it: lower-case letters, digits and inner hyphens, up to 100; unique among all tenants.';
COMMENT ON COLUMN tenants.description IS 'Anything worth knowing about it.';
COMMENT ON COLUMN tenants.settings IS 'JSON object of what the application lets a tenant choose.';
COMMENT ON INDEX tenants_pkey IS 'A tenant by id; foreign keys of the other tables.';
COMMENT ON INDEX tenants_slug_key IS 'A tenant by slug, at log-in.';
