INSERT INTO one SELECT max(i) + 1 FROM one;
