#!/bin/sh
# The tutorial "Your first tunnel", as one program: docs/tutorial/first-tunnel.rst shows its parts.
set -eu
cd "$(mktemp -d)"
# What is still there when it ends, by whichever way it ends.
trap 'kill ${web:-} $(cat ./*.pid 2>/dev/null) 2>/dev/null || true' EXIT

# [service]
mkdir site && echo "Hello from behind the NAT" > site/hello.txt
python3 -m http.server 8000 --bind 127.0.0.1 --directory site & web=$!
# [end]

# [server]
twistd --pidfile server.pid --logfile server.log punchd-server --host 127.0.0.1 --state server
cat server/join
# [end]

# [ids]
punchd id --state bob
punchd id --state alice
# [end]

# [trust]
punchd trust alice "$(punchd id --state alice)" --state bob
punchd trust bob "$(punchd id --state bob)" --state alice
# [end]

# [bob]
twistd --pidfile bob.pid --logfile bob.log punchd-peer --name bob --state bob \
    --server "$(cat server/join)" --expose web=tcp:127.0.0.1:8000
# [end]

# [alice]
twistd --pidfile alice.pid --logfile alice.log punchd-peer --name alice --state alice \
    --server "$(cat server/join)" --forward 8080=bob/web
# [end]

# Nobody types this: a person takes longer than a peer needs to log in.
for state in alice bob; do
    until punchd status --state $state --json 2>/dev/null | grep -q '"master": "connected"'; do
        sleep 0.2
    done
done

# [ping]
punchd ping bob --state alice
# [end]

# [fetch]
python3 -c 'from urllib.request import urlopen
print(urlopen("http://127.0.0.1:8080/hello.txt").read().decode(), end="")'
# [end]

# [connect]
printf 'GET /hello.txt HTTP/1.0\r\n\r\n' | punchd connect bob/web --state alice
# [end]

# [status]
punchd status --state alice
# [end]

# [log]
grep introduction alice.log
# [end]

# [stop]
kill "$(cat alice.pid)" "$(cat bob.pid)" "$(cat server.pid)" "$web"
# [end]
