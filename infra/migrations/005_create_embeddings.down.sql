DROP FUNCTION app.ann_index_ddl(uuid, text, text);
DROP FUNCTION app.ann_index_name(uuid, text, text);
DROP TABLE embeddings;
