# Two commands do everything on a fresh machine: `make train` runs the main job, `make test` passes the tests.
.PHONY: train test build setup lint install uninstall dist check bench picture soak-replay crash flip-run race race-ledger fuzz fuzz-import clean
.DEFAULT_GOAL := build

# Where `make install` puts the program; DESTDIR stands before it where a package is made.
PREFIX ?= /usr/local
DESTDIR ?=

train: build
	./target/release/plimsoll train

test: setup
	@echo "test: building (a first build takes some minutes, most of them in libtorch's bindings)"
	cargo test --release --workspace

build: setup
	@echo "build: target/release/plimsoll (a first build takes some minutes, most of them in libtorch's bindings)"
	cargo build --release --workspace --bins --examples

setup:
	@./memsys/setup.sh

# Of what `make build` built, so that only this needs the rights of root.
install:
	@./trainer/install.sh "$(DESTDIR)$(PREFIX)"

uninstall:
	@./trainer/uninstall.sh "$(DESTDIR)$(PREFIX)"

# dist/plimsoll-VERSION-x86_64-linux.tar.gz, which runs where neither a compiler nor Python is.
dist: build
	@./trainer/dist.sh

# The build comes first, because libtorch's bindings keep one core busy for minutes and only the build has enough work for
# the others meanwhile. `--examples` gives the documentation the features that the tests have: without it, dependencies
# would be checked again.
lint: setup
	cargo fmt --all --check
	cargo test --release --workspace --no-run
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --manifest-path buffers/fuzz/Cargo.toml --all-targets --target-dir target/fuzz -- -D warnings
	cargo clippy --release --manifest-path trainer/fuzz/Cargo.toml --lib --bins --examples --target-dir target/fuzz -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --lib --bins --examples

check: lint test

bench: build
	./target/release/plimsoll bench train

# The picture of the README: a report of a run of its own. It needs chromium.
picture: build
	rm -rf runs/first-run
	./target/release/plimsoll train --memory 512MiB --out runs/first-run
	./docs/picture.sh runs/first-run

# Eight writers, a sampler, a learner and a compressor share a replay for a minute.
soak-replay: setup
	STRESS_SECONDS=60 cargo test --release -p buffers --lib -- --nocapture --exact \
		replay::shared::tests::stress::eight_writers_and_a_sampler

# The same under ThreadSanitizer, without libtorch: race.sh says how, and what it cannot see without rust-src.
race:
	./buffers/fuzz/race.sh 60

# Eight threads and one memory limit, for a minute under ThreadSanitizer: counted bytes never pass it.
race-ledger:
	./buffers/fuzz/race.sh 60 race_ledger

# A run is killed before each of its durable operations, in the middle of each write, and twice in a row.
crash: setup
	CRASH_WHOLE=1 cargo test --release --workspace --test scenarios -- --nocapture killed_before_any_write_it_goes_on

# Every file of a run's folder is flipped and cut at fifty places, removed, and exchanged with that of another run.
flip-run: setup
	FLIP_WHOLE=1 cargo test --release --workspace --test scenarios -- --nocapture no_damage_to_a_run_goes_unseen

# Ten minutes of the reader of replay files under libFuzzer and AddressSanitizer.
fuzz:
	./buffers/fuzz/run.sh 600

# Ten minutes each of the reader of text files and of the whole import of bars.
fuzz-import:
	./trainer/fuzz/run.sh csv_text 600
	./trainer/fuzz/run.sh import_file 600

clean:
	cargo clean
