#!/bin/sh
# What containers run: start.sh server | sentinel, check (their health), cli (redis-cli with the right port)
#
#   ADDRESS, PORT   what the server announces; it listens on PORT
#   MASTER          address and port of the first master; a server without it starts as the master
#   TLS             "yes" if it speaks TLS only
#
# Servers and Sentinels write their role and what they know into their configuration file. So the file is made once,
# on the container's volume, and a container that is started again goes on with it.
set -eu

program() {
  # Valkey's images have both, and give up root's rights only for their own name.
  command -v "valkey-$1" || command -v "redis-$1"
}

configuration=/data/$1.conf

listen() {
  if [ "${TLS:-}" = yes ]; then
    echo "port 0"
    echo "tls-port $PORT"
    echo "tls-replication yes"
    echo "tls-auth-clients no"
    echo "tls-ca-cert-file /certificates/ca.crt"
    echo "tls-cert-file /certificates/redis.crt"
    echo "tls-key-file /certificates/redis.key"
  else
    echo "port $PORT"
  fi
  echo "dir /data"
  # There is no password, and the ports are published on 127.0.0.1 only.
  echo "protected-mode no"
}

server() {
  listen
  echo "appendonly yes"
  if [ -n "${ADDRESS:-}" ]; then
    echo "replica-announce-ip $ADDRESS"
    echo "replica-announce-port $PORT"
  fi
  if [ -n "${MASTER:-}" ]; then
    echo "replicaof $MASTER"
  fi
}

sentinel() {
  listen
  echo "sentinel announce-ip $ADDRESS"
  echo "sentinel announce-port $PORT"
  echo "sentinel monitor mymaster $MASTER 2"
  echo "sentinel down-after-milliseconds mymaster 1000"
  echo "sentinel failover-timeout mymaster 3000"
}

# Runs the program as the image's own start script does, which gives up root's rights where it can.
run() {
  if command -v docker-entrypoint.sh > /dev/null; then
    exec docker-entrypoint.sh "$@"
  fi
  exec "$@"
}

ask() {
  cli=$(program cli)
  if [ "${TLS:-}" = yes ]; then
    "$cli" -p "$PORT" --tls --cacert /certificates/ca.crt "$@"
  else
    "$cli" -p "$PORT" "$@"
  fi
}

wait_for_certificate() {
  if [ "${TLS:-}" != yes ]; then
    return
  fi
  echo "waiting for the service certificates"
  tries=60
  until [ -s /certificates/redis.crt ]; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ]; then
      echo "no certificate after 60 s: see the log of the service certificates"
      exit 1
    fi
    sleep 1
  done
}

make_configuration() {
  if [ ! -s "$configuration" ]; then
    "$1" > "$configuration.new"
    mv "$configuration.new" "$configuration"
  fi
  # Redis's image loads its modules by arguments, and a server that writes its configuration adds them there. Loaded
  # twice, they keep it from starting.
  grep -v "^loadmodule " "$configuration" > "$configuration.new"
  mv "$configuration.new" "$configuration"
}

case $1 in
  server)
    wait_for_certificate
    make_configuration server
    run "$(basename "$(program server)")" "$configuration"
    ;;
  sentinel)
    wait_for_certificate
    make_configuration sentinel
    run "$(basename "$(program server)")" "$configuration" --sentinel
    ;;
  cli)
    shift
    ask "$@"
    ;;
  check)
    if [ -e /data/sentinel.conf ]; then
      ask sentinel ckquorum mymaster | grep "^OK"
    else
      ask ping | grep PONG
    fi
    ;;
esac
