#!/bin/sh
# Usage: deploy/security/redis-acl.sh FOLDER [NAMESPACE] > users.acl     (live; '*' is every namespace, for replays)
# Prints the file for Redis's `aclfile`: one user a service, none but what it does. FOLDER holds a file with the password
# of each user, by its name; what is printed has their hashes alone. Ingest has no user: it never speaks to Redis.
set -eu

folder=$1
namespace=${2:-live}

hash() { # USER
    if [ ! -s "$folder/$1" ]; then
        echo "redis-acl.sh: no password in $folder/$1: put one there (openssl rand -base64 33)" >&2
        exit 2
    fi
    printf %s "$(cat "$folder/$1")" | sha256sum | cut -d ' ' -f 1
}

user() { # USER RULES…
    secret=$(hash "$1")
    name=$1
    shift
    echo "user $name on #$secret resetchannels $*"
}

# A namespace's own keys are {NS}:…, those of its shards {NS:0}:…, {NS:1}:…
own="{$namespace}:" shards="{$namespace:"
# Clients also tell their name by CLIENT SETINFO, which older Redis does not know; they go on where it is refused.
# The last three are asked of a cluster alone.
connecting='+ping +select +time +command +cluster|slots +asking'
reading="$connecting +@read -@dangerous"
scripts='+evalsha +eval +script|load'
# What store.lua writes.
writing='+del +expire +hdel +hincrby +hset +incr +pexpire +pexpireat +rpush +sadd +set +srem +xadd +xdel +xtrim +zadd +zrem'
writing="$writing +zremrangebyrank +zremrangebyscore"

echo 'user default off'
user moodstream-worker "~${own}meta ~${own}worker:* ~${own}workers ~$shards* $reading $scripts $writing"
# Looks, and changes nothing.
user moodstream-dashboard "%R~$own* %R~$shards* $reading"
# Also corrects posts, and acknowledges and mutes alerts.
user moodstream-editor "%R~$own* ~${own}alerts:seen ~${own}alerts:muted ~$shards* $reading $scripts $writing"
# Reads everything, writes what it knows of alerts.
user moodstream-alerts "%R~$own* ~${own}alerts:* %R~$shards* $reading" \
    '+del +hdel +hset +multi +exec +discard +watch +unwatch +pexpire +sadd +set +srem +zadd +zrem'
# Who runs `moodstream doctor`, `dead-letters` and `runs`.
user moodstream-operator "~$own* ~$shards* $reading $scripts $writing +info +unlink"
# Who runs `moodstream backup`, which copies every key of every namespace, as a replica would.
user moodstream-backup "$connecting +replconf +sync"
