UPDATE schema_migrations SET sql = 'SELECT 0', down_sql = 'DROP TABLE one';
