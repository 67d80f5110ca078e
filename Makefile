# Everything a newcomer needs. `make help` lists it.
CARGO ?= cargo
PHOTOS ?= ../shared/data/flickr8k/images
export RUSTDOCFLAGS = -D warnings

.PHONY: help demo test install bench default-pack samples clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: install ## install what is missing, build, caption the samples, show them arriving over MQTT
	$(CARGO) build --all-features
	demo/run "$(PHOTOS)"

test: install ## install what is missing, then format, lint, tests and docs: what CI runs
	$(CARGO) fmt --check
	$(CARGO) test --all-features
	$(CARGO) clippy --all-features --all-targets -- -D warnings
	$(CARGO) doc --all-features --no-deps

install: ## install missing Debian packages
	@.ci/install

bench: ## cold start, time a frame, memory and size of the release build
	$(CARGO) build --release --features camera
	benches/stages target/release/captiond

default-pack: ## build models/default again (needs ../shared/data and models/requirements.txt)
	$(CARGO) build --release
	python3 models/build_default.py --data ../shared/data --captiond target/release/captiond

samples: ## render tests/samples again
	python3 tests/samples/draw.py

clean: ## remove what was built
	$(CARGO) clean
