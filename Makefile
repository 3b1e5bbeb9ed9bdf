# make        builds build/moult
# make run    installs what is missing, builds, gets the model, serves on port 8080
# make test   installs what is missing and runs every test; SAN=address,undefined with sanitizers
# make help   says the rest

ifeq ($(origin CC),default)
CC      := gcc
endif
SAN     ?=
# Objects of another compiler or sanitizer never meet: each has a folder of its own.
BUILD   := build$(if $(SAN),/san)$(if $(filter-out gcc cc,$(notdir $(CC))),/$(notdir $(CC)))

PACKAGES := libuv libmicrohttpd jansson libpcre2-8 libcurl libcrypto
CPPFLAGS += -Iinclude -Isrc -D_GNU_SOURCE $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
CFLAGS   ?= -O2 -g
CFLAGS   += -std=c17 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -fno-strict-aliasing -ffp-contract=off -fstack-protector-strong -pthread
LDLIBS   += $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lm -pthread
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS  += -fsanitize=$(SAN)
endif

# Who may use whom; tests/unit/<folder> links with the same, and tools/check-includes reads it.
USES_base      :=
USES_kernels   := base
USES_tokenizer := base
USES_model     := tokenizer kernels base
USES_ipc       := base
USES_worker    := ipc model tokenizer kernels base
USES_source    := base
USES_front     := ipc source base
USES_cli       := front worker source model tokenizer ipc kernels base
FOLDERS        := cli front worker source model tokenizer ipc kernels base

sources = $(filter-out src/cli/main.c,$(wildcard src/$(1)/*.c src/$(1)/x86/*.c src/$(1)/arm/*.c))
objects = $(patsubst %.c,$(BUILD)/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/$(1).a

.PHONY: all
all: $(BUILD)/moult

$(BUILD)/moult: $(BUILD)/src/cli/main.o $(foreach f,$(FOLDERS),$(call archive,$(f)))
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

define folder_rules
$(call archive,$(1)): $(call objects,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call folder_rules,$(f))))

# The kernels of one level may use its instructions; nothing else may.
$(BUILD)/src/kernels/%.o: CFLAGS += -O3
$(BUILD)/src/kernels/x86/avx2.o: CFLAGS += -mavx2 -mfma
$(BUILD)/src/kernels/x86/avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# tests/unit/<folder>/test_<noun>.c becomes build/tests/unit/<folder>/test_<noun>.
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/*/test_*.c))
define unit_rules
$(BUILD)/tests/unit/$(1)/%: $(BUILD)/tests/unit/$(1)/%.o $(call archive,$(1)) $(foreach u,$(USES_$(1)),$(call archive,$(u)))
	$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ $$^ $(LDLIBS) -lcmocka
endef
$(foreach f,$(FOLDERS),$(eval $(call unit_rules,$(f))))
.PRECIOUS: $(BUILD)/tests/unit/%.o
.PHONY: unit-tests
unit-tests: $(UNIT_TESTS)

# The load that tests/update and tests/fault put on a server, checking every answer.
$(BUILD)/tests/tools/load: $(BUILD)/tests/tools/load.o $(BUILD)/tests/tools/answer.o
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
