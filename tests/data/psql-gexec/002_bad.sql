SELECT 'CREATE TABLE never ()' \gexec
