INSERT INTO one
VALUES (1);
-- the end
