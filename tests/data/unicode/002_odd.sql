INSERT INTO one SELECT length('äß漢😀');
