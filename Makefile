# Two commands do everything on a fresh machine: `make train` runs the main job, `make test` passes the tests.
.PHONY: train test build setup check bench clean
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

check: setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
	cargo test --release --workspace

bench: build
	./target/release/plimsoll bench train

clean:
	cargo clean
