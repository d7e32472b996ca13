-- migrate: no-transaction
CREATE TABLE kept (i int);
SELECT 1/0;
