# Mortar's chores; `make help` lists them. What needs more than a line or two is
# a script under test/.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

# Where the code is. Named one by one, so that no tool walks into ./mnt or ./var.
ROOMS := $(wildcard brick client cmd dht fuse gateway test volume)
ALL   := $(ROOMS:%=./%/...)
UNITS := $(filter-out ./test/...,$(ALL))
# Packages whose tests hold the product to its times: other packages' tests, which use all that the processors give, don't run beside them.
TIMED := ./volume/manage

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# make install: PREFIX for the machine's own tree, DESTDIR for a package's.
PREFIX  ?= /usr/local
DESTDIR ?=
# mount(8) looks for its helpers here and nowhere else.
MOUNT_HELPERS ?= /sbin

# make bench, make soak.
SHAPE  ?= dist3
ROUNDS ?= 3
SOAK   ?= 30m

.DEFAULT_GOAL := build
.PHONY: build up down clean install uninstall check test packages bench soak help

build: ## build bin/mortar, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/mortar ./cmd/mortar

up: build ## build, then run a daemon and a volume of three bricks, mounted at ./mnt
	@test/demo up

down: ## unmount ./mnt and stop all that `make up` started; data stays in ./var
	@test/demo down

clean: ## make down, then remove ./mnt, ./var and ./bin
	@test/demo clean
	@rm -rf bin

install: build ## install under $(DESTDIR)$(PREFIX); GLUSTER_LINK=yes adds a `gluster` link
	install -D -m 0755 bin/mortar $(DESTDIR)$(PREFIX)/bin/mortar
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(MOUNT_HELPERS)
	ln -sfn ../bin/mortar $(DESTDIR)$(PREFIX)/sbin/mount.mortar
	ln -sfn $(PREFIX)/bin/mortar $(DESTDIR)$(MOUNT_HELPERS)/mount.mortar
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|g' docs/packaging/mortar.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/mortar.service
	for page in $(wildcard docs/man/*.[1-8]); do \
		install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
	done
	if [ "$(GLUSTER_LINK)" = yes ]; then ln -sfn ../bin/mortar $(DESTDIR)$(PREFIX)/sbin/gluster; fi

uninstall: ## remove what `make install` put in place
	rm -f $(DESTDIR)$(PREFIX)/bin/mortar $(DESTDIR)$(PREFIX)/sbin/mount.mortar $(DESTDIR)$(MOUNT_HELPERS)/mount.mortar
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/mortar.service
	rm -f $(foreach page,$(notdir $(wildcard docs/man/*.[1-8])),$(DESTDIR)$(PREFIX)/share/man/man$(lastword $(subst ., ,$(page)))/$(page))
	if [ "$$(readlink $(DESTDIR)$(PREFIX)/sbin/gluster)" = ../bin/mortar ]; then rm -f $(DESTDIR)$(PREFIX)/sbin/gluster; fi

check: packages ## formatting, vet, staticcheck, layering, go.mod, unit tests under the race detector
	@bad=$$(gofmt -l $(ROOMS)); [ -z "$$bad" ] || { printf 'not as gofmt has it (run gofmt -w):\n%s\n' "$$bad"; exit 1; }
	go mod tidy -diff
	go vet $(ALL)
	go tool staticcheck $(ALL)
	go test -count=1 ./test/layering
	CGO_ENABLED=1 go test -race -short -timeout 8m $$(go list $(UNITS) | grep -v '$(TIMED:.%=%)$$')
	CGO_ENABLED=1 go test -race -short -timeout 8m $(TIMED)

# Nothing from go's cache of results: it does not see that a binary changed which a test runs.
test: packages build ## every test, real mounts included (root, /dev/fuse)
	MORTAR_BINARY=$(CURDIR)/bin/mortar go test -count=1 -timeout 20m $$(go list $(ALL) | grep -v '$(TIMED:.%=%)$$')
	MORTAR_BINARY=$(CURDIR)/bin/mortar go test -count=1 -timeout 20m $(TIMED)

packages: # installs from Debian what the tests need, if anything is missing
	@test/packages

bench: build ## compare with GlusterFS, a bare FUSE loopback and ext4: SHAPE=dist3 ROUNDS=3
	go run ./test/bench -shape $(SHAPE) -rounds $(ROUNDS)

soak: packages build ## the random-operation tests with fresh seeds for SOAK=30m
	MORTAR_BINARY=$(CURDIR)/bin/mortar MORTAR_SOAK=$(SOAK) go test -count=1 -timeout 0 -v -run 'Random|Soak' $(ALL)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
