DELETE FROM schema_migrations;
