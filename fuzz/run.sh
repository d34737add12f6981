#!/usr/bin/env bash
# Fuzzes: fuzz/run.sh SECONDS [TARGET…], each target for so long, all of them unless some are named.
#
# It takes any Rust toolchain of the crate's, and no cargo-fuzz: the coverage that libFuzzer is guided by is asked
# of LLVM with stable flags. No address sanitizer then, which a crate that forbids unsafe code does without; README.md
# says how to have it. FUZZ_JOBS targets run at once, as many as there are processors by default.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET…]}
shift
targets=("$@")
((${#targets[@]})) || targets=(cookie_header session_id record stored_session local_path)

export RUSTFLAGS="--cfg fuzzing -C passes=sancov-module -C codegen-units=1 -C llvm-args=-sanitizer-coverage-level=4 \
-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
-C llvm-args=-sanitizer-coverage-trace-compares"
# With a target named, build scripts are compiled without these flags.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --target "$host"
programs=$PWD/target/$host/release

fuzz() {
    local target=$1 log
    mkdir -p "corpus/$target" "artifacts/$target"
    log=$(mktemp)
    if "$programs/$target" "corpus/$target" "seeds/$target" -max_total_time="$seconds" -max_len=2048 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        echo "$target: $(grep DONE "$log" | tr '\t' ' ')"
        rm "$log"
    else
        echo "$target: FOUND SOMETHING"
        cat "$log"
        rm "$log"
        return 1
    fi
}
export -f fuzz
export seconds programs

printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash -c 'set -euo pipefail; fuzz {}'
