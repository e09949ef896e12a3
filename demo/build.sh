#!/usr/bin/env bash
# Make the EXL2 form of the demo model that is shipped, from the float16 model that demo/training makes.
#
#   demo/build.sh SOURCE [OUT]        OUT defaults to demo/quire-demo, which must not exist yet
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
source=$1
out=${2:-$here/quire-demo}
python=${PYTHON:-$here/../.venv/bin/python}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
text=$scratch/demo-conversations.txt
(cd "$here/training" && "$python" calibration.py --conversations 1500) >"$text"
"$python" -m quire quantize "$source" "$out" --bpw 5.0 --head-bits 6 --rows 300 --length 512 --calibration "$text"
rm -f "$out/README.md" "$out/eval.jsonl" # of the source; those of the demo stand beside its folder
