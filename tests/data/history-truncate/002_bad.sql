TRUNCATE schema_migrations;
