\if false
SELECT 1;
