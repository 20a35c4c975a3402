#!/bin/sh
# The three ways to send a picture, and what is served: sh examples/curl.sh [PICTURE] [SERVER]
set -eu
picture=${1:-services/api/web/example.jpg}
server=${2:-http://localhost:8000}

echo "# a form"
curl --fail-with-body -sS -F "file=@$picture" "$server/predict"
printf '\n# the body itself, at most one face\n'
curl --fail-with-body -sS -H 'Content-Type: image/jpeg' --data-binary "@$picture" "$server/predict?max_faces=1"
printf '\n# base64 in JSON\n'
printf '{"image": "%s"}' "$(base64 < "$picture" | tr -d '\n')" |
  curl --fail-with-body -sS -H 'Content-Type: application/json' --data-binary @- "$server/predict"
printf '\n# what is served\n'
curl --fail-with-body -sS "$server/readyz"
echo
