#!/usr/bin/env bash
# `make containers-test`: builds the images and uses them as an operator does. Docker by default; for podman:
#   ENGINE=podman COMPOSE=podman-compose BUILD='podman build --format docker' make containers-test
set -euo pipefail
cd "$(dirname "$0")/../.."
engine=${ENGINE:-docker}
compose=${COMPOSE:-docker compose}
build=${BUILD:-$engine build}
python=${PYTHON:-.venv/bin/python}
export MIEN_PUBLISHED_PORT=18000 PROMETHEUS_PORT=19090 COMPOSE_PROJECT_NAME=mien-containers-test
work=$(mktemp -d)
chmod 755 "$work"
export DATA_DIR=$work CONFIG=/data/run.toml DATA=/data/faces.npz RUN=containers-test

step() { printf '\n== %s\n' "$*"; }
fail() {
  printf 'FAILED: %s; the API said:\n' "$*" >&2
  { $engine logs --tail 20 mien-read-only || $compose logs --tail 20 api; } >&2 || true
  exit 1
}
clean() {
  $engine rm -f mien-read-only >/dev/null 2>&1 || true
  $compose --profile train down -v >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT
wait_for() { # wait_for SECONDS COMMAND...
  local left=$(($1 * 5))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || fail "$*"
    sleep 0.2
  done
}
version() { curl -fsS "http://localhost:$MIEN_PUBLISHED_PORT/readyz" | $python -c 'import json, sys; print(json.load(sys.stdin)["model"]["version"])'; }
healthy() {
  case $engine in
    *podman) $engine healthcheck run "$1" ;;
    *) [ "$($engine inspect -f '{{.State.Health.Status}}' "$1")" = healthy ] ;;
  esac
}

step "build"
$build -t mien-api -f Dockerfile.api .
$build -t mien-trainer --build-arg "COMMIT=$(git rev-parse HEAD)" -f Dockerfile.trainer .
for image in mien-api mien-trainer; do
  printf '%s: %d MB\n' $image $(($($engine image inspect -f '{{.Size}}' $image) / 1000000))
done

step "the API alone, on a read-only root, without privileges"
started=$(date +%s%N)
$engine run -d --name mien-read-only --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
  -p 127.0.0.1:18001:8000 mien-api >/dev/null
wait_for 30 curl -fsS http://localhost:18001/readyz
printf 'ready after %d ms\n' $((($(date +%s%N) - started) / 1000000))
wait_for 60 healthy mien-read-only
[ "$($engine exec mien-read-only id -u)" = 10001 ] || fail "it does not run as 10001"
$engine exec mien-read-only sh -c 'touch /app/x' 2>/dev/null && fail "its root can be written"
$engine exec mien-read-only sh -c 'command -v gcc cc' && fail "it holds a compiler"
$engine exec mien-read-only python -c 'import tensorflow' 2>/dev/null && fail "it holds TensorFlow"
curl -fsS -F file=@services/api/web/example.jpg http://localhost:18001/predict | tee "$work/answer"
grep -q '"emotion":"happy"' "$work/answer" || fail "the example is not happy"
$engine stop -t 30 mien-read-only >/dev/null
[ "$($engine inspect -f '{{.State.ExitCode}}' mien-read-only)" = 0 ] || fail "stopping it is not a success"

step "API and Prometheus together"
$compose up -d api prometheus
wait_for 60 curl -fsS "http://localhost:$MIEN_PUBLISHED_PORT/readyz"
curl -fsS -F file=@services/api/web/example.jpg "http://localhost:$MIEN_PUBLISHED_PORT/predict" >/dev/null
scraped() { curl -fsS "http://localhost:$PROMETHEUS_PORT/api/v1/query" --data-urlencode 'query=mien_predictions_total{job="mien",instance="api:8000",emotion="happy"} > 0' | grep -q '"value"'; }
wait_for 60 scraped
echo "Prometheus scrapes api:8000 and has counted the prediction"

step "the trainer writes a model into the volume, and the API swaps to it"
before=$(version)
$python - "$work" <<'PYTHON'
import sys
from pathlib import Path

sys.path.insert(0, ".")
from services.trainer.data.prepare import prepare
from tests.drawn import write_csv

home = Path(sys.argv[1])
source = write_csv(home / "faces.csv", {"Training": 8, "PublicTest": 3, "PrivateTest": 3})
prepare(source, None, home / "faces.npz")
(home / "run.toml").write_text('network = "mien-small"\nepochs = 1\nbatch_size = 28\n')
for path in home.iterdir():
    path.chmod(0o644)
PYTHON
$compose --profile train run --rm trainer
$compose kill -s HUP api
changed() { [ "$(version)" != "$before" ]; }
wait_for 30 changed
printf 'version %s, then %s\n' "$before" "$(version)"
curl -fsS "http://localhost:$MIEN_PUBLISHED_PORT/model" | grep -q "$(git rev-parse HEAD)" || fail "the model does not name the commit"

step "all is well"
