\! touch /tmp/never
