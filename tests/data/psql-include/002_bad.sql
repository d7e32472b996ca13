SELECT 1;

\i 001.sql
