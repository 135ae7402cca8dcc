#!/usr/bin/env bash
# Measures speed and size and prints a table; --write keeps it in docs/benchmarks.md. Root on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

build_agent
cargo build --locked --release --quiet -p terraform-provider-groundwork
cargo build --locked --release --quiet -p tf --example measure-start --bin terraform-provider-memory
scripts/lab.sh prepare >/dev/null
exec python3 tests/bench/bench.py --provider "$CARGO_TARGET_DIR/release/terraform-provider-groundwork" \
    --agent "$AGENT_BINARY" --measure-start "$CARGO_TARGET_DIR/release/examples/measure-start" \
    --idle-provider "$CARGO_TARGET_DIR/release/terraform-provider-memory" "$@"
