#!/bin/sh
# Tells nginx where peers' published services are. For --on-change:
#
#     nginx-upstream.sh FOLDER PEER/SERVICE...
#
# For bob/web, FOLDER gets a file web.bob.conf with the upstream web.bob, for "proxy_pass
# http://web.bob;". nginx.conf includes FOLDER/*.conf. Run it once by hand to make the files: while
# a peer is not there, its upstream has nobody, and nginx answers 502.
#
# NGINX_COMMAND in the environment is how nginx is called, if not as nginx.
set -efu

fail() {
    printf 'nginx-upstream.sh: %s\n' "$*" >&2
    exit 1
}

lower() {
    printf '%s' "$1" | tr '[:upper:]' '[:lower:]'
}

# Where the service $1 of the peer is, as nginx writes it.
server() {
    for each in $PUNCHD_SERVICES; do
        case $each in
            "$1="*)
                case $PUNCHD_ADDRESS in
                    *:*) printf '[%s]:%s' "$PUNCHD_ADDRESS" "${each#*=}" ;;
                    *) printf '%s:%s' "$PUNCHD_ADDRESS" "${each#*=}" ;;
                esac
                return
                ;;
        esac
    done
    printf '%s' "$nobody"
}

[ $# -ge 2 ] || fail "usage: nginx-upstream.sh FOLDER PEER/SERVICE..."
folder=$1
shift
[ -d "$folder" ] || fail "there is no folder $folder"

nginx=${NGINX_COMMAND:-nginx}
told=$(lower "${PUNCHD_PEER:-}")
nobody='127.0.0.1:9 down'
# Is there while nginx does not know yet what stands in the files.
due=$folder/.due

[ "${PUNCHD_SUBJECT:-}" != link ] || exit 0

for wanted; do
    wanted=$(lower "$wanted")
    peer=${wanted%%/*}
    service=${wanted#*/}
    file=$folder/$service.$peer.conf
    new=$folder/.$service.$peer.new
    # What nginx has taken; empty if that was nothing.
    old=$folder/.$service.$peer.old

    if [ "$peer" = "$told" ]; then
        where=$(server "$service")
    elif [ ! -e "$file" ]; then
        where=$nobody
    else
        continue
    fi
    printf 'upstream %s.%s {\n    server %s;\n}\n' "$service" "$peer" "$where" >"$new" ||
        fail "cannot write to $folder"
    if cmp -s "$new" "$file"; then
        rm -f "$new"
        continue
    fi
    if [ "$peer" = "$told" ]; then
        : >"$due" || fail "cannot write to $folder"
        if [ ! -e "$old" ] && [ -e "$file" ]; then
            cp "$file" "$old" || fail "cannot write to $folder"
        elif [ ! -e "$old" ]; then
            : >"$old"
        fi
    fi
    mv -f "$new" "$file" || fail "cannot write $file"
done

[ -e "$due" ] || exit 0

if ! $nginx -t -q; then
    for wanted; do
        wanted=$(lower "$wanted")
        file=$folder/${wanted#*/}.${wanted%%/*}.conf
        old=$folder/.${wanted#*/}.${wanted%%/*}.old
        if [ -s "$old" ]; then
            mv -f "$old" "$file"
        elif [ -e "$old" ]; then
            rm -f "$file" "$old"
        fi
    done
    rm -f "$due"
    fail "nginx does not take its configuration; the upstreams are as they were"
fi
$nginx -s reload || fail "nginx could not be told to read its configuration: does it run?"
for wanted; do
    wanted=$(lower "$wanted")
    rm -f "$folder/.${wanted#*/}.${wanted%%/*}.old"
done
rm -f "$due"
