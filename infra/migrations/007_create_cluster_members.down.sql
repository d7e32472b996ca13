DROP FUNCTION app.match_faces(halfvec, integer, real, text, text, boolean, text, timestamptz, timestamptz);
DROP TABLE cluster_members;
