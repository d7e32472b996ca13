ALTER TABLE schema_migrations RENAME TO mine;
