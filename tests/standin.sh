#!/bin/sh
# The official image's entrypoint in small: the same two starts, the same words.
set -eu
[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
: "${POSTGRES_USER:=postgres}" "${POSTGRES_PASSWORD:=}" "${POSTGRES_INITDB_ARGS:=}" "${POSTGRES_HOST_AUTH_METHOD:=}"
: "${POSTGRES_DB:=$POSTGRES_USER}"
export POSTGRES_USER POSTGRES_DB
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
    printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
    exec "$@"
fi
if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    cat >&2 <<'END'
Error: Database is uninitialized and superuser password is not specified.
       You must specify POSTGRES_PASSWORD to a non-empty value for the
       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".

       You may also use "POSTGRES_HOST_AUTH_METHOD=trust" to allow all
       connections without a password. This is *not* recommended.

       See PostgreSQL documentation about "trust":
       https://www.postgresql.org/docs/current/auth-trust.html
END
    exit 1
fi
if grep -q ' /var/lib/postgresql/data ' /proc/self/mountinfo; then
    cat >&2 <<'END'
Error: in 18+, these Docker images are configured to store database data in a
       format which is compatible with "pg_ctlcluster" (specifically, using
       major-version-specific directory names).  This better reflects how
       PostgreSQL itself works, and how upgrades are to be performed.

       See also https://github.com/docker-library/postgres/pull/1259

       Counter to that, there appears to be PostgreSQL data in:
         /var/lib/postgresql/data (unused mount/volume)
END
    exit 1
fi
if [ -n "$POSTGRES_PASSWORD" ]; then
    secret=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
    POSTGRES_INITDB_ARGS="--pwfile=$secret $POSTGRES_INITDB_ARGS"
fi
initdb --username="$POSTGRES_USER" --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 \
    $POSTGRES_INITDB_ARGS
rm -f "${secret:-}"
printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
shift
PGPASSWORD="$POSTGRES_PASSWORD" pg_ctl -w -o "$* -c listen_addresses=''" start
run() { PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"; }
if [ "$POSTGRES_DB" != postgres ]; then
    echo 'CREATE DATABASE :"db" ;' | run --dbname postgres --set db="$POSTGRES_DB"
fi
for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
        *.sh) printf '\n%s: running %s\n' "$0" "$file"; if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
        *.sql) printf '\n%s: running %s\n' "$0" "$file"; run --dbname "$POSTGRES_DB" -f "$file" ;;
        */\*) ;;
        *) printf '\n%s: ignoring %s\n' "$0" "$file" ;;
    esac
done
pg_ctl -m fast -w stop
printf '\nPostgreSQL init process complete; ready for start up.\n\n'
exec postgres "$@"
