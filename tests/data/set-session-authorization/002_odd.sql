SET SESSION AUTHORIZATION pg_read_all_data;
SELECT count(*) FROM one;
