#!/bin/bash
# run.sh OUT [STAGE...]: on a machine with a GPU, from what pack.sh has made. Every stage's output is on disk as soon as
# it is there, below OUT; the last line of OUT/report.txt says how much passed. Stages: machine, checks, same, bench, peer,
# compiled, ode, profile, ranks, sanitizer.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
stages=${*:-machine checks same bench}
work=$(mktemp -d)
tar -C "$work" -xJf "$here/package.tar.xz"
cd "$work" || exit 1

# cuDNN as PyTorch has it; ours last, so that nothing of the machine's is hidden
packages=$(python3 -c 'import nvidia, os
print(":".join(os.path.join(p, d, "lib") for p in nvidia.__path__ for d in ("cudnn", "cu13", "cublas", "cuda_nvrtc", "nccl")))' 2>/dev/null)
export LD_LIBRARY_PATH=$packages:/usr/local/cuda/lib64:$work/lib MULUN_MODULES=$work/bin OMP_WAIT_POLICY=passive
passed=0 failed=0

say() {
        printf '\n== %s (%s)\n' "$*" "$(date +%T)" | tee -a "$out/report.txt"
}

# step SECONDS NAME COMMAND...: its output to NAME.txt, whether it passed to the report
step() {
        local limit=$1 name=$2 begin status=0
        shift 2
        begin=$(date +%s)
        timeout "$limit" "$@" >"$out/$name.txt" 2>&1 || status=$?
        if [ "$status" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
        printf '%-24s status %d, %d s: %s\n' "$name" "$status" "$(($(date +%s) - begin))" "$(tail -n 1 "$out/$name.txt")" |
                tee -a "$out/report.txt"
}

golden_one() {
        local log
        log=$(timeout 100 bin/golden-test --backend cuda --threads 4 --precision "$2" "cases/$1" 2>&1)
        printf '%s, %s: status %d: %s\n' "$1" "$2" $? "$(tail -n 4 <<<"$log" | tr '\n' ' ')"
}
export -f golden_one

goldens() {
        {
                find cases -name case.json -printf '%P\n' | sed 's,/case.json, float32,' | sort
                sed 's,$, bf16,' rounded.txt
                sed 's,$, tf32,' rounded.txt
        } | xargs -P 6 -I{} bash -c 'golden_one {}'
}

golden_tally() {
        if grep -qv 'status \(0\|77\):' "$out/goldens.txt"; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
        printf 'goldens: %d passed, %d skipped, %d failed\n' "$(grep -c 'status 0:' "$out/goldens.txt")" \
                "$(grep -c 'status 77:' "$out/goldens.txt")" "$(grep -vc 'status \(0\|77\):' "$out/goldens.txt")" |
                tee -a "$out/report.txt" "$out/goldens.txt"
}

for stage in $stages; do
        say "$stage"
        case $stage in
        machine)
                {
                        nvidia-smi
                        nvcc --version | tail -n 2
                        echo "$LD_LIBRARY_PATH"
                        ldd bin/libmulun-cuda.so bin/kernels-check
                } >"$out/machine.txt" 2>&1
                nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee -a "$out/report.txt"
                ;;
        checks)
                goldens >"$out/goldens.txt" 2>&1 &
                step 120 bf16 bin/kernels-check bf16 cuda
                step 200 operations bin/kernels-check test cuda
                wait
                golden_tally
                ;;
        same) # two runs and a resumed one, bit for bit
                step 100 same python3 "$here/same.py" bin/mulun-worker bin/libmulun-cuda.so "$work/same" 20
                ;;
        bench) # with cuDNN's ways as measured here (they stay in OUT/plans), and in bf16 as the heuristics' first, too
                whole=(bin/mulun-worker --bench --cuda 1 --embd 128 --layers 32 --encoder-layers 4 --batch 128)
                mkdir -p "$out/plans"
                step 100 bench_bf16 "${whole[@]}" --bf16 1 --steps 10 --warmup 3 --plans "$out/plans"
                step 60 bench_bf16_rule "${whole[@]}" --bf16 1 --steps 10 --warmup 3
                step 60 bench_bf16_none "${whole[@]}" --bf16 1 --steps 10 --warmup 3 --plans "$out/plans" --recompute 0
                step 60 bench_bf16_block "${whole[@]}" --bf16 1 --steps 10 --warmup 3 --plans "$out/plans" --recompute 2
                step 100 bench_tf32 "${whole[@]}" --tf32 1 --steps 5 --warmup 2 --plans "$out/plans"
                step 150 bench_float32 "${whole[@]}" --steps 5 --warmup 2 --plans "$out/plans"
                ;;
        peer) # PyTorch's training step on the same card, eager: compiling takes minutes
                for precision in bf16 tf32 fp32; do
                        step 100 "peer_$precision" python3 "$here/torch_mulan.py" --device cuda --embd 128 --layers 32 \
                                --encoder-layers 4 --batch 128 --precision "$precision"
                done
                ;;
        compiled) # compiling 32 layers takes minutes: what a layer costs, and the rest, from 4 and 12
                for layers in 4 12; do
                        step 150 "compiled_$layers" python3 "$here/torch_mulan.py" --device cuda --embd 128 --layers "$layers" \
                                --encoder-layers 4 --batch 128 --precision bf16 --compile
                done
                ;;
        ode) # the score network with its input gradient, as the probability flow asks for it
                mkdir -p "$out/plans"
                for precision in tf32 float32; do
                        step 90 "ode_$precision" bin/mulun-worker --bench --cuda 1 --embd 128 --layers 32 --encoder-layers 4 \
                                --batch 128 --ode 1 --plans "$out/plans" --tf32 "$([ $precision = tf32 ] && echo 1 || echo 0)"
                        step 60 "ode_peer_$precision" python3 "$here/torch_mulan.py" --device cuda --embd 128 --layers 32 \
                                --encoder-layers 4 --batch 128 --precision "${precision/float32/fp32}" --mode ode
                done
                ;;
        profile)
                step 110 profile_run ncu --clock-control none --metrics gpu__time_duration.sum --csv --log-file profile.csv \
                        bin/mulun-worker --bench --cuda 1 --bf16 1 --embd 128 --layers 3 --encoder-layers 1 \
                        --batch 128 --steps 1 --warmup 0
                step 10 profile python3 "$here/kernel_times.py" profile.csv
                step 70 profile_norm ncu --clock-control none -k regex:norm_ --launch-skip 12 -c 6 --section SpeedOfLight \
                        --section WarpStateStats --section Occupancy --section SchedulerStats --section LaunchStats \
                        --section MemoryWorkloadAnalysis bin/mulun-worker --bench --cuda 1 --bf16 1 --embd 128 --layers 3 \
                        --encoder-layers 1 --batch 128 --steps 1 --warmup 0
                ;;
        ranks) # NCCL itself, with as many ranks as a machine with one GPU can have
                TEST_EMULATED=$work/bin/libmulun-cuda.so step 60 ranks bin/test-ranks cuda=1 '*_the_*'
                ;;
        sanitizer)
                for operation in norm_forward norm_backward dense_forward adamw; do
                        step 50 "memcheck_$operation" compute-sanitizer --tool memcheck bin/kernels-check test cuda "$operation"
                done
                step 50 initcheck_norm_forward compute-sanitizer --tool initcheck bin/kernels-check test cuda norm_forward
                step 50 racecheck_norm_forward compute-sanitizer --tool racecheck bin/kernels-check test cuda norm_forward
                ;;
        esac
done
say "$passed steps passed, $failed failed"
[ "$failed" -eq 0 ]
