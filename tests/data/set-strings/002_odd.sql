SET standard_conforming_strings = off;
SET escape_string_warning = off;
INSERT INTO one SELECT length('\'\\');
