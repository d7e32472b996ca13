SELECT 1 \g | touch /tmp/never
