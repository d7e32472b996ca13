-- migrate: no-transaction
BEGIN;
CREATE TABLE never (i int);
