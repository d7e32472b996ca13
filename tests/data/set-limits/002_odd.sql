SET lock_timeout = '1ms'; SET default_transaction_read_only = on; SET datestyle = 'SQL';
INSERT INTO one VALUES (1);
