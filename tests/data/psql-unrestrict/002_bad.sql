\unrestrict 0
\! touch /tmp/never
