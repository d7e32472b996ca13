SELECT 1;
\connect postgres
