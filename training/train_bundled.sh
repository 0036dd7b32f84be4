#!/usr/bin/env bash
# Trains the bundled model's recipe from label maps and labelled T1 scans, in one command, with the seeds of its configurations:
#   training/train_bundled.sh LABEL_MAPS LABELLED_T1 PRIORS POSE.nii.gz FOLDER
# LABEL_MAPS may be several folders, separated by colons. training/LOG.md says how the bundled file itself came about: in
# pieces, its first part on a pack without N4, its third part twice, so that this gives its like, not its bytes.
set -euo pipefail
if [[ $# -ne 5 ]]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
IFS=: read -ra folders <<<"$1"
maps=()
for folder in "${folders[@]}"; do maps+=(--label-maps "$folder"); done
dal-anomaly prepare "${maps[@]}" --labelled-t1 "$2" --priors "$3" --pose "$4" --spacing 1.7 -o "$5/pack"
dal-anomaly train --config "$here/configs/default.yaml" --data "$5/pack" -o "$5/first"
dal-anomaly train --config "$here/configs/refine.yaml" --data "$5/pack" -o "$5/second" --start "$5/first/last.pt"
PYTHONPATH="$here/..:$here" python "$here/average_checkpoints.py" "$5/first/last.pt" "$5/second/last.pt" -o "$5/mean.pt"
dal-anomaly train --config "$here/configs/repair.yaml" --data "$5/pack" -o "$5/third" --start "$5/mean.pt"
dal-anomaly train --config "$here/configs/longer.yaml" --data "$5/pack" -o "$5/fourth" --start "$5/third/last.pt"
dal-anomaly train --config "$here/configs/longer_again.yaml" --data "$5/pack" -o "$5/fifth" --start "$5/fourth/last.pt"
dal-anomaly train --config "$here/configs/smaller_regions.yaml" --data "$5/pack" -o "$5/sixth" --start "$5/fifth/last.pt"
dal-anomaly export "$5/sixth/last.pt" --data "$5/pack" --config "$here/configs/default.yaml" -o "$5/default.dalmodel"
