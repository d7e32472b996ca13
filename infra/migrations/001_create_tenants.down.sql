-- The roles stay: they belong to the whole server, and other databases may use them.
DROP TABLE tenants;
DROP FUNCTION app.touch_row();
DROP FUNCTION app.current_tenant_id();
DROP FUNCTION app.uuid_v7_floor(timestamptz);
DROP FUNCTION app.uuid_v7();
DROP SCHEMA app;

-- Only an extension that 001 made: one that was there before is not ours to take away.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_extension
        WHERE extname = 'vector' AND obj_description(oid, 'pg_extension') LIKE '%Made by migration 001.'
    ) THEN
        DROP EXTENSION vector;
    END IF;
END
$$;
