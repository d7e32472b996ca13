COPY one FROM STDIN;
1
x
\.
