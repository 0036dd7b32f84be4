#!/usr/bin/env bash
# Trains the bundled model's recipe from label maps and labelled T1 scans, in one command, with the seeds of its configurations:
#   training/train_bundled.sh LABEL_MAPS LABELLED_T1 PRIORS POSE.nii.gz FOLDER
# LABEL_MAPS may be several folders, separated by colons. training/LOG.md says how the bundled file itself came about: in
# pieces, its first part on a pack without N4, its third part twice, so that this gives its like, not its bytes. Interrupted,
# the same command goes on. Thresholds are calibrated afterwards: `dal-anomaly calibrate`.
set -euo pipefail
if [[ $# -ne 5 || -z "$1" ]]; then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
IFS=: read -ra folders <<<"$1"
maps=()
for folder in "${folders[@]}"; do maps+=(--label-maps "$folder"); done

# part CONFIG NAME [START]: trains a part, goes on where it was interrupted, and does nothing once it is done
part() {
    local run="$folder/$2"
    [[ -e "$run/model.dalmodel" ]] && return
    if [[ -e "$run/last.pt" || -e "$run/best.pt" ]]; then
        dal-anomaly train --config "$run/config.yaml" --data "$folder/pack" -o "$run" --resume
    else
        dal-anomaly train --config "$here/configs/$1.yaml" --data "$folder/pack" -o "$run" ${3:+--start "$folder/$3"}
    fi
}

folder="$5"
[[ -e "$folder/pack/pack.json" ]] ||
    dal-anomaly prepare "${maps[@]}" --labelled-t1 "$2" --priors "$3" --pose "$4" --spacing 1.7 -o "$folder/pack"
part default first
part refine second first/last.pt
PYTHONPATH="$here/..:$here" python "$here/average_checkpoints.py" "$folder"/{first,second}/last.pt -o "$folder/mean.pt"
part repair third mean.pt
part longer fourth third/last.pt
part longer_again fifth fourth/last.pt
part smaller_regions sixth fifth/last.pt
dal-anomaly export "$folder/sixth/last.pt" --data "$folder/pack" --config "$here/configs/default.yaml" --force \
    -o "$folder/default.dalmodel"
