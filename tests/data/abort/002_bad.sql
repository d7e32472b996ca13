CREATE TABLE never (i int);
ABORT;
