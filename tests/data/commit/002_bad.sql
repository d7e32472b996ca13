CREATE TABLE never (i int);
COMMIT;
