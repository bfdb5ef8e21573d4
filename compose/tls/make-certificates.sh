#!/bin/sh
# Makes a CA and a certificate for all servers and Sentinels, unless they are there.
set -eu
cd /certificates

if [ ! -s redis.crt ]; then
  names=IP:127.0.0.1,DNS:localhost
  for last in 31 32 33 41 42 43; do
    names=$names,IP:10.213.79.$last
  done
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj "/CN=ha-redis development CA" -keyout ca.key -out ca.crt
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj "/CN=redis" -keyout redis.key.new -out redis.csr
  echo "subjectAltName=$names" > extensions
  openssl x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
    -extfile extensions -out redis.crt.new
  # The servers run as a user of their own. The volume is open to the engine's users alone.
  chmod 644 redis.key.new
  mv redis.key.new redis.key
  mv redis.crt.new redis.crt
fi
cp ca.crt /ca/ca.crt
chmod 644 /ca/ca.crt
