CREATE TABLE never (i int);
ROLLBACK;
