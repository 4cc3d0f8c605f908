# Two commands do everything on a fresh machine: `make train` runs the main job, `make test` passes the tests.
.PHONY: train test build setup check bench soak-replay race fuzz clean
.DEFAULT_GOAL := build

train: build
	./target/release/plimsoll train

test: setup
	@echo "test: building (a first build takes some minutes, most of them in libtorch's bindings)"
	cargo test --release --workspace

build: setup
	@echo "build: target/release/plimsoll (a first build takes some minutes, most of them in libtorch's bindings)"
	cargo build --release

setup:
	@./memsys/setup.sh

# The build comes first, because libtorch's bindings keep one core busy for minutes and only the build has enough work for
# the others meanwhile. `--examples` gives the documentation the features that the tests have: without it, dependencies
# would be checked again.
check: setup
	cargo fmt --all --check
	cargo test --release --workspace --no-run
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --manifest-path buffers/fuzz/Cargo.toml --lib --target-dir target/fuzz -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --lib --bins --examples
	cargo test --release --workspace

bench: build
	./target/release/plimsoll bench train

# Eight writers, a sampler, a learner and a compressor share a replay for a minute.
soak-replay: setup
	STRESS_SECONDS=60 cargo test --release -p buffers --lib -- --nocapture --exact \
		replay::shared::stress::eight_writers_and_a_sampler

# The same under ThreadSanitizer, of the shared core alone: race.sh says how, and what it cannot see without rust-src.
race:
	./buffers/fuzz/race.sh 60

# Ten minutes of the reader of replay files under libFuzzer and AddressSanitizer.
fuzz:
	./buffers/fuzz/run.sh 600

clean:
	cargo clean
