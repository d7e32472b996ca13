CREATE TABLE never (i int);
\q
