\o /tmp/never
SELECT 1;
