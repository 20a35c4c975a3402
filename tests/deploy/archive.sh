#!/usr/bin/env bash
# Two Ray nodes on this host score an archive; then one of them is killed in the middle. The rows must be those of one node.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(dirname "$(realpath -s "${PYTHON:-.venv/bin/python}")")
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
port=${RAY_PORT:-26379}
photos=${PHOTOS:-300}
work=$(mktemp -d)
groups=()

step() { printf '\n== %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}
clean() {
  for group in "${groups[@]}"; do kill -9 -- "-$group" 2>/dev/null || true; done
  rm -rf "$work"
}
trap clean EXIT
node() { # node ARGUMENTS...: one more node with one core; its process group is the last of ${groups[@]}
  setsid "$bin/ray" start "$@" --num-cpus 1 --object-store-memory 100000000 --block >"$work/node${#groups[@]}.log" 2>&1 &
  groups+=($!)
}
started() { # started N: wait until node N has joined
  for _ in $(seq 240); do
    grep -q 'Ray runtime started' "$work/node$1.log" && return
    sleep 0.5
  done
  cat "$work/node$1.log" >&2
  fail "node $1 did not start"
}
score() { timeout 300 "$bin/python" -m services.batch score "$work/in" --out "$work/$1" --detector haar "${@:2}"; }
same() { # same A B: the two outputs hold the same rows, each once
  "$bin/python" - "$work/$1" "$work/$2" <<'PYTHON'
import sys
import pyarrow.dataset as ds

one, other = (
    sorted(map(str, ds.dataset(f"{folder}/faces", format="parquet").to_table().to_pylist())) for folder in sys.argv[1:]
)
sources = {row.split("'source': ")[1].split(",")[0] for row in one}
print(f"{len(one)} rows of {len(sources)} photos, and {len(other)}")
sys.exit(one != other)
PYTHON
}

step "$photos photos, scored on this machine"
"$bin/python" - "$work/in" "$photos" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

folder = Path(sys.argv[1])
folder.mkdir()
face = np.asarray(Image.fromarray(data.astronaut()[:256, 90:346]).resize((200, 200)))
for number in range(int(sys.argv[2])):
    Image.fromarray(np.roll(face, number % 20, axis=1)).save(folder / f"{number:05d}.jpg")
PYTHON
score one --cpus 2

step "two nodes of one core each"
node --head --port "$port" --include-dashboard false
started 0
node --address "127.0.0.1:$port"
started 1
score two --address "127.0.0.1:$port"
same one two || fail "two nodes gave other rows"

step "one of them is killed in the middle"
score killed --address "127.0.0.1:$port" >"$work/said" &
job=$!
while [ "$(find "$work/killed/shards" -name '*.json' 2>/dev/null | wc -l)" -lt 2 ]; do
  kill -0 $job 2>/dev/null || fail "the job ended before a node was killed"
  sleep 0.05
done
kill -9 -- "-${groups[1]}"
printf 'killed after %d of %d shards\n' "$(find "$work/killed/shards" -name '*.json' | wc -l)" "$(find "$work/one/shards" -name '*.json' | wc -l)"
wait $job || fail "the job ended with status $?"
cat "$work/said"
same one killed || fail "rows were lost or doubled"

step "all is well"
