# Everything a newcomer needs. `make help` lists it.
CARGO ?= cargo
PYTHON ?= python3
# Real pictures, beside the checkout where founders keep them.
DATA ?= ../shared/data
PHOTOS ?= $(wildcard $(DATA)/flickr8k/images)

# demo and test build the same features in the same profile, so neither builds again for the other.
BUILT = "$${CARGO_TARGET_DIR:-target}/debug/captiond"
RELEASE = "$${CARGO_TARGET_DIR:-target}/release/captiond"
VENV = target/venv

.PHONY: help demo test faults faults-long fuzz fuzz-keep audit soak parity bench bench-search bench-metrics deb default-pack samples install clean test-aarch64 cross cross-aarch64 cross-armv7 test-web bench-fit distributed-fit bench-kernels bench-memory export-parity bench-own-models bench-peers bench-instructions

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

demo: install ## build, caption pictures, show captions arriving over MQTT (PHOTOS=/your/folder)
	$(CARGO) build --all-features
	@demo/run $(if $(PHOTOS),"$(PHOTOS)")

test: install ## format, lint, tests, docs and parity: what CI runs
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-features --all-targets -- -D warnings
	$(CARGO) clippy --locked -- -D warnings # without the camera: cargo alone must do
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --all-features --no-deps
	$(CARGO) test --locked --all-features
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}/fuzz" # they include modules by path
	$(PYTHON) -m unittest discover -q -s models
	@$(MAKE) --no-print-directory test-web
	@$(MAKE) --no-print-directory parity

test-aarch64: ## build for aarch64 and compare with this machine under qemu-user (docs/cross-building.md)
	$(CARGO) build --locked --all-features
	cross/test $(BUILT)

test-web: ## the installer's page in a headless Chromium
	@.ci/install chromium chromium-driver
	$(CARGO) build --locked --all-features
	@CAPTIOND_PROGRAM=$(BUILT) $(PYTHON) -B tests/page/test_page.py

FAULTS = $(CARGO) test --locked --all-features --test 'faults_*' -- --nocapture
MORE_FAULTS = $(CARGO) test --locked --all-features --no-fail-fast --test daemon_mqtt --test mqtt_outbox --test mqtt_commands \
  --test mqtt_tls --test service_manager --test reload --test damaged_packs --test video_source --test speech

faults: install ## what the daemon must survive, one line for each fault (docs/faults.md)
	@log=$$(mktemp); $(FAULTS) >$$log 2>&1 && $(MORE_FAULTS) >>$$log 2>&1 || { cat $$log; exit 1; }; \
	awk '/PASS \| / { print substr($$0, index($$0, "PASS | ")); next } \
	  /Running tests\// { split($$2, path, "[/.]") } \
	  /^test .* \.\.\. ok$$/ && path[2] !~ /^faults_/ && $$2 != "the_daemon_as_a_child" { \
	    gsub("_", " ", $$2); print "PASS | " path[2] " | " $$2 }' $$log; rm $$log

faults-long: ## the same with many more rounds, by hand
	@CAPTIOND_FAULTS=long $(MAKE) --no-print-directory faults

TIME ?= 60
FUZZ = mjpeg http_answer pack_manifest realignment datastore mqtt_command tokenizer
FUZZ_DICTIONARY = mjpeg:jpeg http_answer:http pack_manifest:pack realignment:tensor datastore:tensor mqtt_command:command

FOUND = target/fuzz-corpus

fuzz: $(FOUND)/unpacked ## let the fuzzers loose for TIME seconds each (docs/fuzzing.md; needs cargo-fuzz: cargo install cargo-fuzz)
	@for target in $(FUZZ); do \
	  words=$$(for pair in $(FUZZ_DICTIONARY); do [ "$${pair%:*}" = $$target ] && echo "-dict=fuzz/dictionaries/$${pair#*:}.dict"; done); \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target $(FOUND)/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(TIME) -max_len=4096 -timeout=20 -print_final_stats=1 $$words || exit 1; \
	done

fuzz-keep: $(FOUND)/unpacked ## put what the fuzzers found, minimised, into fuzz/found.tar.xz
	@mkdir -p $(FOUND)-kept && rm -rf $(FOUND)-kept/* && for target in $(FUZZ); do \
	  mkdir -p $(FOUND)-kept/$$target && \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target $(FOUND)-kept/$$target $(FOUND)/$$target -- -merge=1 -max_len=4096 || exit 1; \
	done
	@tar -cJf fuzz/found.tar.xz --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C $(FOUND)-kept $(FUZZ)

$(FOUND)/unpacked: fuzz/found.tar.xz
	@.ci/install xz-utils
	@mkdir -p $(FOUND) && tar -xJf fuzz/found.tar.xz -C $(FOUND) --skip-old-files && touch $@

audit: ## licences, sources and known holes of all that is built in (needs cargo-deny, cargo-audit and the network)
	$(CARGO) deny check licenses bans sources
	cd fuzz && $(CARGO) deny --config ../deny.toml check licenses bans sources
	$(CARGO) deny check advisories
	$(CARGO) audit

MINUTES ?= 120
soak: ## MINUTES of captions at full speed, watching memory and open files (needs DATA and mosquitto)
	$(CARGO) build --release --all-features
	benches/soak $(RELEASE) --pictures "$(PHOTOS)" --minutes $(MINUTES)

parity: ## compare with Pillow, onnxruntime and PyTorch on real pictures (needs DATA)
	@if [ -d "$(DATA)/flickr8k" ]; then $(MAKE) --no-print-directory measure-parity; else \
	  echo "##### SKIPPED: parity and measured quality: there is no $(DATA)/flickr8k #####"; fi

.PHONY: measure-parity
# PASSIVE: threads of PyTorch that wait for each other don't take the cores from those that work.
measure-parity: $(VENV)/ready
	$(CARGO) build --all-features
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python models/parity.py --captiond $(BUILT) --data "$(DATA)"

bench: ## cold start, time a frame, memory and size of the release build
	$(CARGO) build --release --all-features
	benches/stages $(RELEASE)

bench-search: $(VENV)/ready ## time the search from 1,000 to 1,000,000 rows (needs DATA; faiss-cpu compares)
	program=$$($(CARGO) bench --all-features --bench search --no-run 2>&1 | sed -n 's/.*(\(.*\))$$/\1/p' | tail -1); \
	$(COMPARED)/bin/python benches/search "$$program" --data "$(DATA)" --embeddings target/embeddings

bench-fit: $(VENV)/ready ## time the fit from 1,000 to 1,000,000 cached pairs (numpy, scikit-learn compare; 5 GB of disk)
	program=$$($(CARGO) bench --all-features --bench fit --no-run 2>&1 | sed -n 's/.*(\(.*\))$$/\1/p' | tail -1); \
	$(COMPARED)/bin/python benches/fit "$$program" --work target/bench-fit

bench-kernels: $(VENV)/ready ## time the towers on our kernels, on tract's and in onnxruntime
	program=$$($(CARGO) bench --all-features --profile dev --bench kernels --no-run 2>&1 | sed -n 's/.*(\(.*\))$$/\1/p' | tail -1); \
	$(VENV)/bin/python benches/kernels "$$program"

ARM = target/cross/aarch64-unknown-linux-gnu/release/captiond
bench-instructions: ## instructions a frame takes, here and, once `make cross-aarch64` has run, on a Pi's cores (ten minutes)
	@.ci/install valgrind qemu-user gcc libc6-dev
	$(CARGO) build --release --all-features
	benches/instructions $(RELEASE)
	@if [ -x $(ARM) ]; then benches/instructions $(ARM) --qemu; else echo "##### SKIPPED: aarch64: there is no $(ARM) #####"; fi

bench-memory: ## the default pack's memory by part
	$(CARGO) bench --all-features --profile dev --bench memory

bench-metrics: $(VENV)/ready ## time CIDEr-D and Kendall's tau against the Python originals (needs DATA and Java)
	program=$$($(CARGO) bench --all-features --bench metrics --no-run 2>&1 | sed -n 's/.*(\(.*\))$$/\1/p' | tail -1); \
	$(VENV)/bin/python benches/metrics "$$program" --data "$(DATA)"

EXPORT = target/export-venv
PARITY = tokenizers generation towers
export-parity: $(EXPORT)/ready ## hold what models/export.py exports against PyTorch and the tokenizers' originals (half an hour)
	$(CARGO) build --all-features --bin captiond --example say
	for what in $(PARITY); do \
	  $(EXPORT)/bin/python models/export_parity.py $$what --captiond $(BUILT) \
	    --say "$${CARGO_TARGET_DIR:-target}/debug/examples/say" || exit 1; done

PICTURES ?= 1000
bench-own-models: $(EXPORT)/ready ## from published shapes to a caption: export, pack build, caption (needs DATA; an hour)
	$(CARGO) build --release --all-features
	$(EXPORT)/bin/python benches/own_models $(RELEASE) --data "$(DATA)" --pictures $(PICTURES)

$(EXPORT)/ready: models/requirements.txt models/export/requirements.txt
	@.ci/install python3-venv
	$(PYTHON) -m venv --clear $(EXPORT)
	$(EXPORT)/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes \
	  -r models/requirements.txt -r models/export/requirements.txt
	@touch $@

# faiss-cpu and scikit-learn are in the peers' environment, and used by bench-search and bench-fit once it is made.
PEERS = target/peers
COMPARED = $(if $(wildcard $(PEERS)/ready),$(PEERS),$(VENV))
bench-peers: $(PEERS)/ready ## time CLIP and captions beside onnxruntime, faster-clip, llama.cpp, BLIP, ViT-GPT2 (4 GB of disk)
	$(CARGO) build --release --all-features
	$(PEERS)/bin/python benches/peers --captiond $(RELEASE) --work target/peers-weights $(if $(ROUNDS),--rounds $(ROUNDS))

# On top of EXPORT, whose PyTorch, transformers and onnxruntime they use. llama.cpp is compiled for this machine.
# Tiles are refused by many a virtual machine whose processor says that it has them: an invalid opcode in libggml-cpu.
NO_AMX = $(if $(filter x86_64,$(shell uname -m)),-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
$(PEERS)/ready: benches/peers/requirements.txt benches/peers/requirements-build.txt $(EXPORT)/ready
	@.ci/install python3-venv gcc g++ libc6-dev
	$(PYTHON) -m venv --clear $(PEERS)
	@echo 'import site; site.addsitedir("$(abspath $(EXPORT))/lib/python3.11/site-packages")' \
	  >$(PEERS)/lib/python3.11/site-packages/base.pth
	$(PEERS)/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r benches/peers/requirements-build.txt
	PATH="$(abspath $(PEERS))/bin:$$PATH" CFLAGS="$(NO_AMX)" CXXFLAGS="$(NO_AMX)" CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_OPENMP=OFF" $(PEERS)/bin/python -m pip install \
	  --quiet --no-cache-dir --no-deps --no-build-isolation --require-hashes -r benches/peers/requirements.txt
	@touch $@

RAY = target/ray
distributed-fit: $(RAY)/ready ## test the fit on several workers with Ray (on Flickr8k if DATA is there)
	$(CARGO) build --all-features
	program=$$(realpath $(BUILT)); cd models && CAPTIOND="$$program" $(if $(wildcard $(DATA)/flickr8k),DATA="$(abspath $(DATA))") \
	  ../$(RAY)/bin/python -m unittest -v test_distributed_fit

$(RAY)/ready: models/requirements-ray.txt
	@.ci/install python3-venv
	$(PYTHON) -m venv --clear $(RAY)
	$(RAY)/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r models/requirements-ray.txt
	@touch $@

deb: ## build the Debian packages into target/debian (needs cargo-deb: cargo install cargo-deb)
	$(CARGO) deb --locked
	$(CARGO) deb --locked --no-build --variant=pack-default

cross: ## ARM binaries and packages into target/cross (docs/cross-building.md); cross-aarch64, cross-armv7: one of them
	cross/build all

cross-aarch64 cross-armv7: cross-%:
	cross/build $*

default-pack: $(VENV)/ready ## build models/default again (needs DATA)
	$(CARGO) build --release --all-features
	$(VENV)/bin/python models/build_default.py --data "$(DATA)" --captiond $(RELEASE)

samples: $(VENV)/ready ## render tests/samples again
	$(VENV)/bin/python tests/samples/draw.py

install: ## install the Debian packages that are missing
	@.ci/install libclang-dev mosquitto mosquitto-clients openssl gcc g++ libc6-dev systemd espeak-ng

# Wheels by version and hash, CPython 3.11 as in Debian 12; several gigabytes, PyTorch is among them.
$(VENV)/ready: models/requirements.txt
	@.ci/install python3-venv
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r models/requirements.txt
	@touch $@

clean: ## remove what was built
	$(CARGO) clean
	rm -rf $(VENV)
