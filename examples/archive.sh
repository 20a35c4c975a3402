#!/bin/sh
# Faces of a folder of photos and of a film, as a table and a page: sh archive.sh PHOTOS FILM OUT
set -eu
photos=${1:?a folder of photos} film=${2:?a film} out=${3:?a folder to write to}
python=${PYTHON:-python}

# A folder, recursively. Stop it and repeat it: it goes on with what is left.
"$python" -m services.batch score "$photos" --out "$out/photos" --csv

# A film, five frames a second, with identities and smoothed probabilities.
"$python" -m services.batch score "$film" --out "$out/film" --every 0.2s

# Who shows what, and for how long: any tool that reads Parquet will do.
"$python" - "$out/film/faces" <<'PYTHON'
import sys

import pyarrow.dataset as ds

rows = ds.dataset(sys.argv[1], format="parquet").to_table(columns=["face_id", "emotion"]).drop_null()
for row in rows.group_by(["face_id", "emotion"]).aggregate([([], "count_all")]).sort_by("face_id").to_pylist():
    print(f"face {row['face_id']}: {row['emotion']} in {row['count_all']} frames")
PYTHON

# On a cluster of machines that share the folders:
#   ray start --head --port 6379                    on one
#   ray start --address HOST:6379                   on the others
#   python -m services.batch score "$photos" --out "$out/photos" --address HOST:6379
