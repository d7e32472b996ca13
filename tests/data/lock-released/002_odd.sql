SELECT pg_advisory_unlock_all();
INSERT INTO one VALUES (1);
