#!/bin/sh
# Runs several commands with the same facts, one after the other, for --on-change:
#
#     several.sh 'COMMAND ARGUMENT...' 'COMMAND ARGUMENT...' ...
#
# Each of them is run, even if one before it fails; then all of them are run again.
set -u
status=0
for command; do
    sh -c "$command" || status=1
done
exit $status
