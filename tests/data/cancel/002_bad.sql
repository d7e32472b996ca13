SELECT 1;
SELECT pg_cancel_backend(pg_backend_pid());
