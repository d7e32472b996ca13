-- migrate: no-transaction
CREATE TABLE kept (i int);
SELECT pg_terminate_backend(pg_backend_pid());
