-- migrate: no-transaction
BEGIN; INSERT INTO one VALUES (1); COMMIT;
CREATE INDEX CONCURRENTLY one_i ON one (i);
