#!/usr/bin/env bash
# Measures speed and size and prints a table; --write keeps it in docs/benchmarks.md. Root on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

build_agent
build_provider
cargo build --locked --release --quiet -p tf --example measure-start --bin terraform-provider-memory
scripts/lab.sh prepare >/dev/null
exec python3 tests/bench/bench.py --provider "$PROVIDER_BINARY" \
    --agent "$AGENT_BINARY" --measure-start "$CARGO_TARGET_DIR/release/examples/measure-start" \
    --idle-provider "$CARGO_TARGET_DIR/release/terraform-provider-memory" "$@"
