SET client_encoding = 'LATIN1';
INSERT INTO one SELECT 1; -- ü €
