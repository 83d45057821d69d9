#!/bin/sh
# Usage: deploy/security/kafka-acls.sh BOOTSTRAP [NAMESPACE]     (live; '*' is every namespace, for replays)
# Grants each service's user what it does and nothing more, on brokers whose authorizer denies what nobody granted.
# KAFKA_ACLS names Kafka's own tool (kafka-acls.sh), COMMAND_CONFIG a file of client properties of one who may grant.
set -eu

servers=$1
namespace=${2:-live}

grant() { # USER OPTIONS…
    user=$1
    shift
    "${KAFKA_ACLS:-kafka-acls.sh}" --bootstrap-server "$servers" \
        ${COMMAND_CONFIG:+--command-config "$COMMAND_CONFIG"} --add --allow-principal "User:$user" "$@"
}

if [ "$namespace" = '*' ]; then
    posts='*' letters='*' group='*'
else
    posts=$namespace.posts letters=$namespace.dead-letters group=$namespace.inference-worker
fi

# Ingest makes the topic and writes to it; it reads nothing.
grant moodstream-ingest --operation Create --operation Describe --operation Write --topic "$posts"
# A worker reads posts as a member of its group, makes the topics if it comes first, and writes dead letters alone.
grant moodstream-worker --operation Create --topic "$posts"
grant moodstream-worker --operation Describe --operation Read --topic "$posts" --group "$group"
grant moodstream-worker --operation Create --operation Describe --operation Write --topic "$letters"
# Who runs `moodstream doctor`, `dead-letters` and `runs delete`.
grant moodstream-operator --operation Describe --operation DescribeConfigs --operation Write --operation Delete \
    --topic "$posts"
grant moodstream-operator --operation Describe --operation Read --operation Delete --topic "$letters" --group "$group"
