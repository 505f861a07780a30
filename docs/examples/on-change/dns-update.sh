#!/bin/sh
# Keeps a zone of yours up to date, by dynamic updates (RFC 2136) with a key (TSIG). For --on-change,
# at the server or at a peer:
#
#     dns-update.sh ZONE KEYFILE [SERVICE...]
#
# PEER.ZONE gets the peer's addresses, and each SERVICE that it publishes a SRV record. Who has gone,
# or does not publish its address, has no records. The zone should be for nothing else, as peers
# choose their names themselves.
#
# In the environment: DNS_SERVER, "ADDRESS PORT" of the zone's name server, if it is not to be found
# by the DNS; DNS_TTL, seconds that answers may be kept, by default 30.
set -efu

fail() {
    printf 'dns-update.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: dns-update.sh ZONE KEYFILE [SERVICE...]"
zone=${1%.}.
key=$2
shift 2
[ -r "$key" ] || fail "cannot read the key $key"

[ "$PUNCHD_SUBJECT" != link ] || exit 0
# What cannot be a host's name is not in the zone, and must not be taken for one somewhere in it.
case $PUNCHD_PEER in *[!A-Za-z0-9-]* | -* | *-) exit 0 ;; esac

name=$PUNCHD_PEER.$zone
ttl=${DNS_TTL:-30}

updates() {
    [ -z "${DNS_SERVER:-}" ] || echo "server $DNS_SERVER"
    echo "zone $zone"
    echo "update delete $name A"
    echo "update delete $name AAAA"
    [ -z "$PUNCHD_IPV4" ] || echo "update add $name $ttl A $PUNCHD_IPV4"
    [ -z "$PUNCHD_IPV6" ] || echo "update add $name $ttl AAAA $PUNCHD_IPV6"
    for service; do
        echo "update delete _$service._tcp.$name SRV"
        for each in $PUNCHD_SERVICES; do
            case $each in
                "$service="*) echo "update add _$service._tcp.$name $ttl SRV 0 0 ${each#*=} $name" ;;
            esac
        done
    done
    echo send
}

updates "$@" | nsupdate -k "$key" -t 20 ||
    fail "the zone $zone could not be updated"
