#!/bin/bash
# An hour (or so) of training through the daemon, then the averaged weights' bits per dimension on all test images, then
# samples; everything that RESULTS.md tells is left in OUT.
#
#     tests/bench/hour.sh DATA CONFIG OUT [OVERRIDES]
#
# DATA: a folder in CIFAR-10's binary format, or "photos32"; CONFIG: a name of configs/; OVERRIDES: a JSON object of dotted
# paths. MINUTES (60): the length is set by steps; this many minutes are aimed at by measuring the first ones, unless
# OVERRIDES names training.num_steps_train. PORT (8790).
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$1 config=$2 out=$3 overrides=${4:-{\}}
port=${PORT:-8790} minutes=${MINUTES:-60}
address=http://127.0.0.1:$port
python=/usr/bin/python3
[ "$data" != photos32 ] || data=$root/data/photos32
data=$(cd "$data" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
state=$out/state

"$root/build/daemon/mulund" --state "$state" --listen "127.0.0.1:$port" --single-user yes --dataset "data=$data" \
        --web "$root/build/web/site" --configs "$root/configs" >"$out/mulund.log" 2>&1 </dev/null &
daemon=$!
trap '"$root/build/ctl/mulunctl" --server "$address" stop >/dev/null 2>&1 || kill "$daemon" 2>/dev/null || true' EXIT
for i in {1..200}; do
        curl -fsS -o /dev/null --max-time 5 "$address/healthz" 2>/dev/null && break
        kill -0 "$daemon" 2>/dev/null || { tail "$out/mulund.log"; exit 1; }
        [ "$i" -lt 200 ] || { echo "mulund does not answer"; exit 1; }
        sleep 0.1
done

get() {
        curl -fsS --max-time 60 "$address/$1"
}
field() {
        "$python" -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}
submit() {
        curl -sS --max-time 60 -H 'Content-Type: application/json' -d "$1" "$address/v1/jobs" |
                "$python" -c 'import json, sys; d = json.load(sys.stdin); print(d["id"]) if "id" in d else sys.exit(json.dumps(d, indent=1))'
}
document() {
        "$python" - "$config" "$overrides" "$@" <<'PY'
import json, sys
config, overrides = sys.argv[1], json.loads(sys.argv[2])
overrides["data.dataset"] = "data"
overrides.update(json.loads(sys.argv[3]))
print(json.dumps({"kind": "train", "config": config, "name": sys.argv[4], "overrides": overrides}))
PY
}
wait_for() {
        local s
        while :; do
                s=$(get "v1/jobs/$1" | field 'd["state"]')
                case $s in
                succeeded) return 0 ;;
                failed | cancelled) get "v1/jobs/$1" | field 'd["error"]'; return 1 ;;
                esac
                sleep "${2:-5}"
        done
}

steps='{}'
if ! grep -q num_steps_train <<<"$overrides"; then
        echo "Measuring the speed"
        probe=$(submit "$(document '{"training.num_steps_train": 60, "training.num_steps_lr_warmup": 10, "training.steps_per_eval": 1000000, "training.steps_per_save": 1000000, "training.num_steps_eval": 0}' "how fast")")
        wait_for "$probe" 2
        n=$("$python" - "$(get "v1/jobs/$probe")" "$(get "v1/series?jobs=$probe&names=train/images_per_second&points=100")" "$minutes" <<'PY'
import json, statistics, sys
job, series, minutes = json.loads(sys.argv[1]), json.loads(sys.argv[2])["series"], float(sys.argv[3])
batch = job["config"]["training"]["batch_size_train"]
rate = statistics.median(series[0]["mean"]) if series else 60 * batch / 30
print(int(minutes * 60 * rate / batch * 0.97))
PY
        )
        steps='{"training.num_steps_train": '$n'}'
        echo "$n steps"
fi

train=$(submit "$(document "$steps" "$(basename "$out")")")
echo "Training: $address/#/jobs/$train"
wait_for "$train"
echo "Evaluating"
evaluate=$(submit '{"kind": "evaluate", "checkpoint": {"job": '"$train"', "which": "latest"}, "method": "sparse", "split": "test", "weights": "ema"}')
wait_for "$evaluate"
sample=$(submit '{"kind": "sample", "checkpoint": {"job": '"$train"', "which": "latest"}, "n_images": 64, "n_steps": 250, "seed": 1}')
wait_for "$sample"

get "v1/jobs/$train" >"$out/train.json"
get "v1/jobs/$evaluate" >"$out/evaluation.json"
image=$(get "v1/jobs/$sample/artifacts" | field '[a["id"] for a in d["artifacts"] if a["kind"] == "image"][0]')
get "v1/artifacts/$image" >"$out/samples.png"
lines=()
if [ -f "$data/baselines.json" ]; then
        mapfile -t lines < <("$python" -c '
import json, sys
for b in json.load(open(sys.argv[1]))["baselines"]:
    if "PNG, all" in b["method"] or "JPEG XL" in b["method"]:
        print("--line=%s=%s" % (b["method"], b["bpd"]))' "$data/baselines.json")
fi
"$python" "$root/tests/bench/series_svg.py" "$address" "$train" "$out/curve" --title "$config on $(basename "$data")" "${lines[@]}"
"$python" - "$out" <<'PY'
import json, os, sys
out = sys.argv[1]
t, e = (json.load(open(os.path.join(out, n), encoding="utf-8")) for n in ("train.json", "evaluation.json"))
from datetime import datetime
seconds = (datetime.fromisoformat(t["ended"].replace("Z", "+00:00")) - datetime.fromisoformat(t["started"].replace("Z", "+00:00"))).total_seconds()
r = e["result"]
result = {"config": t["config_name"], "steps": t["progress"]["step"], "images": t["progress"]["step"] * t["config"]["training"]["batch_size_train"],
          "training_seconds": seconds, "bpd": r["bpd"], "standard_error": r["standard_error"], "parts": r["parts"], "test_images": r["images"],
          "dataset_digest": r["dataset_digest"], "evaluation_seconds": r["seconds"], "seed": t["config"]["training"]["seed"]}
json.dump(result, open(os.path.join(out, "result.json"), "w", encoding="utf-8"), indent=1)
print(json.dumps(result, indent=1))
PY
