# SPDX-License-Identifier: GPL-2.0-or-later
# The front door. `make help` lists the targets. On Debian 12, as root, `make check`, `make bench` and
# `make demo` each install and fetch what they need; `make` builds with what is there.

BUILD := build
KERNEL ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KERNEL)/build
PREFIX ?= /usr/local
JOBS := $(shell nproc)
# The machines of tests/vm/common.sh that `make check` uses, and all.
CHECK_MACHINES := uml-debug qemu-6.1 qemu-6.12
MACHINES := uml uml-kasan $(CHECK_MACHINES)

.PHONY: all
all: tools module

.PHONY: help
help:
	@echo 'make                dmchain (build/dmchain) and, for the kernel of KDIR, kernel/dm-chain.ko'
	@echo '     tools, module  one of the two; KDIR=$(KDIR)'
	@echo 'make install        installs both (PREFIX=$(PREFIX), DESTDIR, KDIR)'
	@echo 'make deb            Debian packages of both (the module by DKMS), in build/deb'
	@echo 'make check          builds all, and runs the tests (about 26 minutes on two processors; the first time 8 more)'
	@echo 'make check-long     the same with the tests that take longer, many hours'
	@echo 'make bench          measures: JSON and a table'
	@echo 'make demo           a chain of 1000 layers as one device (IMAGE=top.qcow2: your own)'
	@echo 'make lint           sparse, checkpatch, clang-format'
	@echo 'make modules-all    dm-chain.ko for every test machine, in build/kernel-*/'
	@echo 'make packages       installs the packages that all this needs (Debian 12, as root)'
	@echo 'make clean          removes build/ (not the cache, $${DMCHAIN_CACHE:-/var/cache/dm-chain})'

# The tool alone needs fewer packages than the programs of the tests.
.PHONY: tools test-programs
tools test-programs:
	@command -v cmake >/dev/null || { echo 'make: cmake is not installed; as root, run: make packages'; exit 1; }
	cmake -S . -B $(BUILD)
	cmake --build $(BUILD) -j$(JOBS) $(if $(filter tools,$@),--target dmchain)

.PHONY: module
module:
	@[ -e $(KDIR)/Makefile ] || { \
	    echo 'make: $(KDIR) has no kernel headers: install linux-headers-$(KERNEL), or name another' \
	         'kernel with KDIR=/usr/src/linux-headers-..., or build without the module: make tools'; exit 1; }
	$(MAKE) -C $(KDIR) M=$(CURDIR) W=1 modules

.PHONY: install
install: all
	DESTDIR=$(abspath $(DESTDIR)) cmake --install $(BUILD) --prefix $(PREFIX)
	$(MAKE) -C $(KDIR) M=$(CURDIR) INSTALL_MOD_PATH=$(abspath $(DESTDIR)) modules_install

.PHONY: deb
deb:
	packaging/build-deb

.PHONY: packages
packages:
	tests/vm/packages

.PHONY: uml-%
uml-%: packages
	tests/vm/uml $*

.PHONY: module-for-%
module-for-%: packages
	tests/vm/module $*
module-for-uml: uml-uml
module-for-uml-debug: uml-uml-debug
module-for-uml-kasan: uml-uml-kasan

.PHONY: modules-all
modules-all: $(MACHINES:%=module-for-%)

# What the tests need; the packages come before anything is built. Tests wait a good part of their time for something.
.PHONY: check
check: $(CHECK_MACHINES:%=module-for-%)
	$(MAKE) test-programs
	ctest --test-dir $(BUILD) --output-on-failure -j$$(($(JOBS) + 1)) -LE long

# Those with the label "short" come again, with KASAN.
.PHONY: check-long
check-long: $(MACHINES:%=module-for-%)
	$(MAKE) test-programs
	tests/vm/packages long
	ctest --test-dir $(BUILD) --output-on-failure -j$(JOBS) -LE short

.PHONY: bench
bench: module-for-uml
	$(MAKE) test-programs
	tests/bench/run

.PHONY: demo
demo:
	@echo 'Packages and the test kernel: what is missing is downloaded and installed first (about 210 MB on a bare machine;' \
	    'not counted in the times below)'
	@tests/vm/packages demo
	@tests/demo/run $(IMAGE)

.PHONY: lint
lint: packages
	tests/vm/uml source
	tests/lint/run

.PHONY: clean
clean:
	rm -rf $(BUILD)
	find kernel \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '.*.cmd' \) -delete
	rm -f modules.order Module.symvers kernel/modules.order .modules.order.cmd .Module.symvers.cmd
