# make        builds build/moult
# make run    installs what is missing, builds, gets the model, serves on port 8080
# make test   installs what is missing and runs every test
# make help   says the rest

ifeq ($(origin CC),default)
CC      := gcc
endif
SAN     ?=
PREFIX  ?= /usr/local
# Objects of another compiler or sanitizer never meet: each has a folder of its own.
comma   := ,
BUILD   := build$(if $(SAN),/$(patsubst san-address-undefined,san,san-$(subst $(comma),-,$(SAN))))$(if \
           $(filter-out gcc,$(notdir $(CC))),/$(notdir $(CC)))$(if $(FAULTS),/faults)

PACKAGES      := libuv libmicrohttpd jansson libpcre2-8 libcurl libcrypto libseccomp sqlite3
TARGET        := $(shell $(CC) -dumpmachine 2>/dev/null)
MACHINE       := $(firstword $(subst -, ,$(TARGET)))
PKG_CONFIG    := pkg-config
AR            := ar
# Code for another machine needs that one's libraries: tools/sysroot has them, if nobody else says.
ifneq ($(filter-out $(shell uname -m),$(MACHINE)),)
AR            := $(shell $(CC) -print-prog-name=ar)
ifndef PKG_CONFIG_LIBDIR
SYSROOT       := $(shell tools/sysroot --find $(MACHINE))
PKG_CONFIG    := PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) \
                 PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(TARGET)/pkgconfig pkg-config
CPPFLAGS      += --sysroot=$(SYSROOT)
LDFLAGS       += --sysroot=$(SYSROOT)
endif
endif
PACKAGE_FLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS  := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)
# Without compiler or libraries, whatever is built first says so, in one sentence.
ifeq ($(and $(PACKAGE_LIBS),$(shell command -v $(firstword $(CC)) 2>/dev/null)),)
MISSING := say-what-is-missing
endif

CPPFLAGS += -Iinclude -Isrc -D_GNU_SOURCE $(PACKAGE_FLAGS)
# FAULTS=1: with the fault points of src/base/fault.h, for tests/fault.
CPPFLAGS += $(if $(FAULTS),-DMOULT_FAULTS)
CFLAGS   ?= -O2 -g
CFLAGS   += -std=c17 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -fno-strict-aliasing -ffp-contract=off -fstack-protector-strong -pthread
LDLIBS   += $(PACKAGE_LIBS) -lm -pthread
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS  += -fsanitize=$(SAN)
endif

# Commands are shown with V=1; else a word and the file; nothing with make -s.
Q := $(if $(V),,@)
say = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '  %-5s %s\n' $(1) $(2))

# Who may use whom; tests/unit/<folder> links with the same, and tests/tidy checks it.
USES_base      :=
USES_kernels   := base
USES_tokenizer := base
USES_model     := tokenizer kernels base
USES_ipc       := base
USES_index     := kernels base
USES_worker    := ipc index model tokenizer kernels base
USES_source    := base
USES_store     := base
USES_front     := ipc source store base
USES_cli       := front worker source store index model tokenizer ipc kernels base
FOLDERS        := cli front worker source store index model tokenizer ipc kernels base

# The folder of the CPU that the compiler makes code for, where there is one.
CPU     := $(or $(if $(filter x86_64,$(MACHINE)),x86),$(if $(filter aarch64,$(MACHINE)),arm),none)
sources = $(filter-out src/cli/main.c,$(wildcard src/$(1)/*.c src/$(1)/$(CPU)/*.c))
objects = $(patsubst %.c,$(BUILD)/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/$(1).a

.PHONY: all
all: $(BUILD)/moult

$(BUILD)/moult: $(BUILD)/src/cli/main.o $(foreach f,$(FOLDERS),$(call archive,$(f)))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

define folder_rules
$(call archive,$(1)): $(call objects,$(1))
	@mkdir -p $$(@D)
	$$(call say,AR,$$@)
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call folder_rules,$(f))))

# The kernels of one level may use its instructions; nothing else may.
$(BUILD)/src/kernels/%.o $(BUILD)/src/index/quantize.o: CFLAGS += -O3
$(BUILD)/src/kernels/x86/avx2.o: CFLAGS += -mavx2 -mfma
$(BUILD)/src/kernels/x86/avxvnni.o: CFLAGS += -mavx2 -mfma -mavxvnni
$(BUILD)/src/kernels/x86/scan_avx2.o: CFLAGS += -mavx2
AVX512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
$(BUILD)/src/kernels/x86/avx512.o: CFLAGS += $(AVX512)
$(BUILD)/src/kernels/x86/scan_avx512.o: CFLAGS += $(AVX512)
$(BUILD)/src/kernels/x86/avx512vnni.o: CFLAGS += $(AVX512) -mavx512vnni
$(BUILD)/src/kernels/x86/scan_avx512vnni.o: CFLAGS += $(AVX512) -mavx512vnni
# The tests have it a second time, as a CPU with AVX-512 VNNI and without AVX-VNNI runs it.
$(BUILD)/tests/kernels/x86/avxvnni_evex.o: CFLAGS += -O3 -mavx2 -mfma -mavx512vl -mavx512vnni
$(BUILD)/src/kernels/arm/neondot.o: CFLAGS += -march=armv8.2-a+dotprod
$(BUILD)/src/kernels/arm/scan_neondot.o: CFLAGS += -march=armv8.2-a+dotprod
$(BUILD)/src/kernels/arm/neoni8mm.o: CFLAGS += -march=armv8.2-a+dotprod+i8mm

$(BUILD)/%.o: %.c Makefile | $(MISSING)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# tests/unit/<folder>/test_<noun>.c becomes build/tests/unit/<folder>/test_<noun>.
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/*/test_*.c))
define unit_rules
$(BUILD)/tests/unit/$(1)/%: $(BUILD)/tests/unit/$(1)/%.o $(call archive,$(1)) $(foreach u,$(USES_$(1)),$(call archive,$(u)))
	$$(call say,LINK,$$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ $$^ $(LDLIBS) -lcmocka
endef
$(foreach f,$(FOLDERS),$(eval $(call unit_rules,$(f))))
.PRECIOUS: $(BUILD)/tests/unit/%.o
.PHONY: unit-tests
unit-tests: $(UNIT_TESTS)

# tests/kernels and tests/golden: each test_<noun>.c is a program too, linked with the folder's other
# *.c and with everything but main.
ARCHIVES := $(foreach f,$(FOLDERS),$(call archive,$(f)))
define program_rules
TEST_PROGRAMS_$(1) := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/$(1)/test_*.c))
$(BUILD)/tests/$(1)/test_%: $(BUILD)/tests/$(1)/test_%.o $(patsubst %.c,$(BUILD)/%.o,$(filter-out \
    tests/$(1)/test_%,$(wildcard tests/$(1)/*.c tests/$(1)/$(CPU)/*.c))) $(ARCHIVES)
	$$(call say,LINK,$$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ $$^ $(LDLIBS) -lcmocka
endef
$(foreach f,kernels golden,$(eval $(call program_rules,$(f))))

# The client of the server tests.
$(BUILD)/tests/tools/load: $(patsubst %,$(BUILD)/tests/tools/%.o,load answer request)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The open-loop client of bench/update.
$(BUILD)/bench/load.o: CPPFLAGS += -Itests/tools
$(BUILD)/bench/load: $(patsubst %,$(BUILD)/%.o,bench/load bench/latency tests/tools/answer \
    tests/tools/request)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Texts to ids for tests/golden/test_tokenizer.py.
$(BUILD)/tests/tools/tokenize: $(BUILD)/tests/tools/tokenize.o $(call archive,tokenizer) $(call archive,base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

TEST_PROGRAMS := $(TEST_PROGRAMS_kernels) $(TEST_PROGRAMS_golden) $(BUILD)/tests/tools/load \
                 $(BUILD)/bench/load
.PHONY: test-programs
test-programs: $(TEST_PROGRAMS)

# Each tests/fuzz/fuzz_<noun>.c with libFuzzer, which clang has; all objects are made for it.
FUZZERS := $(patsubst %.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
.PHONY: fuzzers fuzz
fuzzers:
	@$(MAKE) --no-print-directory CC=clang SAN=fuzzer-no-link,address,undefined BUILD=build/fuzz \
	    $(FUZZERS)
build/fuzz/tests/fuzz/%: build/fuzz/tests/fuzz/%.o $(ARCHIVES)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS)

# What follows needs no compiler and no library at first: the scripts install them.
.PHONY: run setup test soak test-arm64
run:
	@CC='$(CC)' MODEL='$(MODEL)' PORT='$(PORT)' DATA='$(DATA)' ARGS='$(ARGS)' tools/run
setup:
	@tools/setup run
test:
	@CC='$(CC)' SAN='$(SAN)' tools/test $(SUITE)
test-arm64:
	@tools/test arm64
soak:
	@CC='$(CC)' SAN='$(SAN)' MOULT_TEST_SOAK=1 tools/test $(SUITE)
fuzz:
	@FUZZ_SECONDS='$(or $(FUZZ_SECONDS),600)' tools/test fuzz

.PHONY: say-what-is-missing
say-what-is-missing:
	@CC='$(CC)' tools/setup --check; false

.PHONY: install
install: all
	install -D -m 755 $(BUILD)/moult $(DESTDIR)$(PREFIX)/bin/moult
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/moult/LICENSE

.PHONY: help
help:
	@sed -n 's/^## //p' Makefile

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

## make                      builds build/moult
## make run                  installs what is missing, builds, gets the model, serves it
##   MODEL=FOLDER            another model, in sentence-transformers layout
##   PORT=8080 DATA=./moult-data ARGS='--keep-warm 0'
## make test                 installs what is missing and runs every test
##   SUITE=unit              one suite: tidy unit kernels golden tools api source update fault fuzz
##   SAN=address,undefined   with sanitizers
## make test-arm64           the program for ARM64, in an emulator
## make soak                 the tests with their full counts; takes long
## make fuzz                 the fuzzers alone: FUZZ_SECONDS=600 for each
## make setup                installs what is missing, and nothing more
## make install              PREFIX=/usr/local DESTDIR=
## make clean                removes build/
##
## CC=clang builds with another compiler, CC=aarch64-linux-gnu-gcc for ARM64 (tools/setup arm64
## and tools/sysroot aarch64 fetch what that needs), V=1 shows the commands.
