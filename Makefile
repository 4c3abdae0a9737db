# The commands people type. `make demo` and `make test` work on a fresh machine with Python and make.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for real processes: more of them than cores run at once.
TEST_PROCESSES ?= 4
# Files of tests, where not all are wanted.
TESTS ?=
PACKAGES := libs/schema libs/runtime libs/dataset libs/client libs/robot libs/virtual-robot services/telemetry-service \
	services/video-ingest-service services/export-service services/sync-agent deploy/local
SOURCES := $(PACKAGES) tests

# docker compose: the machine's own where there is one, else one of our own in .compose/.
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo .compose/bin/docker-compose)

# What servers and robot PCs are; `make lock` fails if a package has no wheel for one of them. pgpq of the server has
# none for Linux on aarch64.
FOR_SERVERS := x86_64-unknown-linux-gnu aarch64-apple-darwin
FOR_ROBOTS := $(FOR_SERVERS) aarch64-unknown-linux-gnu
HAS_WHEELS = $(UV) pip compile -q --no-deps --only-binary :all: --python-version

# uv: the machine's own where there is one that works here, else one of our own in .uv/.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)

# Node, which builds the page: the machine's own where there is one that will do, else one of our own in .node/.
NEW_ENOUGH := const [a, b] = process.versions.node.split(".").map(Number); \
	process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)
OWN_NODE := $(shell node -e '$(NEW_ENOUGH)' >/dev/null 2>&1 && npm --version >/dev/null 2>&1 || echo .node/bin/npm)
OF_NODE := $(if $(OWN_NODE),PATH="$(CURDIR)/.node/bin:$$PATH" )
NPM := $(OF_NODE)npm --prefix services/console
# Whoever needs the page has it as a prerequisite; it is built when something that it is made of has changed.
PAGE := deploy/local/src/teleop_backend/page/index.html
OF_PAGE := $(shell find services/console -name node_modules -prune -o -name tests -prune -o -type f -print)

.PHONY: help console demo run up down logs backup restore test test-long test-api test-root test-stack test-stack-long test-bare test-wheels test-browser check coverage fuzz format figures bench chaos lock pin dist sbom audit openapi docs reference clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed-local $(PAGE)  ## record a virtual robot, cut the line, export the session, check it
	@$(BIN)/python -m teleop_backend.demo

run: .venv/installed-local $(PAGE)  ## the backend on 127.0.0.1:8000; data in ./data and ./lerobot_backup
	@$(BIN)/python -m teleop_backend

console: $(PAGE)  ## build the page at /, which `make run` and the others do by themselves

up: | $(filter .compose/%,$(COMPOSE))  ## build and start the stack of containers, wait until it is ready
	@COMPOSE="$(COMPOSE)" deploy/stack/up.sh

down: | $(filter .compose/%,$(COMPOSE))  ## stop the stack; recorded data stays in its volumes
	$(COMPOSE) down

logs: | $(filter .compose/%,$(COMPOSE))  ## follow what the stack's services write
	$(COMPOSE) logs --follow --tail=100

backup: | $(filter .compose/%,$(COMPOSE))  ## copy the running stack's database and files to backups/<time>, checked
	@COMPOSE="$(COMPOSE)" deploy/stack/backup.sh

restore: | $(filter .compose/%,$(COMPOSE))  ## FROM=backups/<time>: bring a backup into an empty stack
	@COMPOSE="$(COMPOSE)" deploy/stack/restore.sh "$(FROM)"

test: .venv/installed-dev $(PAGE)  ## the tests on real parts, as an ordinary user, but for the long ones and those that need docker
	$(BIN)/python -m teleop_testing.machine.ordinary $(BIN)/pytest -m "not long" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(TESTS)

test-long: .venv/installed-dev $(PAGE)  ## the long ones, each about a minute
	$(BIN)/python -m teleop_testing.machine.ordinary $(BIN)/pytest -m long -n $(TEST_PROCESSES) --dist loadgroup $$(grep -rl --include='test_*.py' --exclude-dir=stack 'mark\.long' $(SOURCES))

test-api: .venv/installed-dev  ## schemathesis: 100 made-up requests for each operation, where `make test` makes 4; and as each role
	TELEOP_API_EXAMPLES=100 $(BIN)/python -m teleop_testing.machine.ordinary $(BIN)/pytest deploy/local -k schemathesis

test-root: .venv/installed-dev  ## the few tests of what only root may do
	$(BIN)/pytest -m root $$(grep -rl --include='test_*.py' 'mark\.root' $(SOURCES))

test-stack: .venv/installed-dev | $(filter .compose/%,$(COMPOSE))  ## the real compose.yaml, built, started and hurt, but for the long ones
	COMPOSE="$(COMPOSE)" $(BIN)/pytest -m "not long" tests/stack

test-stack-long: .venv/installed-dev | $(filter .compose/%,$(COMPOSE))  ## the same, but those that each take a minute or so
	COMPOSE="$(COMPOSE)" $(BIN)/pytest -m long tests/stack

test-bare: .venv/installed-dev  ## demo and test in a container of Debian, Python and make, by root and another user
	$(BIN)/python tests/stack/bare.py

test-wheels: .venv/installed-dev $(PAGE)  ## the wheels of a release on machines of their own: server, robot with LeRobot, agent, client
	$(BIN)/python -m teleop_testing.machine.ordinary $(BIN)/pytest tests/install/whole_release.py

test-browser: .venv/installed-dev $(PAGE)  ## the page in Debian's Chromium, with pictures of all views in screenshots/
	TELEOP_SCREENSHOTS=$(CURDIR)/screenshots $(BIN)/pytest tests/console

check: .venv/installed-dev .console/installed  ## lint, types, structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(NPM) run --silent check

coverage: .venv/installed-dev  ## which lines and branches of the pure modules their package's tests run; at least 95 %
	$(BIN)/python tests/pure_coverage.py -n $(TEST_PROCESSES) --dist loadfile

fuzz: .venv/installed-fuzz  ## make up bytes for everything that reads what others have sent, a minute for each
	$(BIN)/python tests/fuzz/fuzz.py

format: .venv/installed-dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: .venv/installed-dev  ## of the sources: fullest folders, longest import chains and functions, cycles, comments
	@$(BIN)/python -m teleop_testing.figures

bench: .venv/installed-dev  ## measure, side by side with the alternatives
	$(BIN)/python tests/benchmarks

chaos: .venv/installed-dev  ## a thousand faults at random under load, then the account; sabotage; power cuts, as root; clocks that are set
	$(BIN)/python tests/faults/chaos.py --faults 1000
	$(BIN)/python tests/faults/sabotaged.py
	$(BIN)/python tests/faults/robot_power.py --cuts 60
	$(BIN)/python tests/faults/server_power.py --cuts 30
	$(BIN)/pytest tests/faults/clock_jumps.py

lock: | $(filter .uv/%,$(UV))  ## resolve anew and write the hash-locked requirements
	$(UV) lock --upgrade
	for package in telemetry-service video-ingest-service export-service sync-agent; do \
		$(UV) export -q --frozen --no-emit-workspace --no-header --package lerobot-backend-$${package%-service} --no-default-groups -o requirements/$$package.txt >/dev/null; done
	$(UV) export -q --frozen --no-emit-workspace --no-header --package lerobot-backend-schema --extra authority --extra migrate --no-default-groups -o requirements/setup.txt >/dev/null
	$(UV) export -q --frozen --no-emit-workspace --no-header --only-group build --only-group image -o requirements/build.txt >/dev/null
	$(UV) export -q --frozen --no-emit-workspace --no-header --no-default-groups --group build -o requirements/local.txt >/dev/null
	$(UV) export -q --frozen --no-emit-workspace --no-header --only-group docs -o requirements/docs.txt >/dev/null
	for group in audit compose fuzz node; do \
		$(UV) export -q --frozen --no-emit-workspace --no-header --only-group $$group -o requirements/$$group.txt >/dev/null; done
	$(UV) export -q --frozen --no-emit-workspace --no-header --all-groups --no-group image --no-group audit --no-group compose --no-group fuzz --no-group node -o requirements/dev.txt >/dev/null
	for python in 3.12 3.13; do \
		for each in $(FOR_SERVERS); do \
			$(HAS_WHEELS) $$python --python-platform $$each requirements/local.txt >/dev/null || exit 1; done; \
		for each in $(FOR_ROBOTS); do \
			$(HAS_WHEELS) $$python --python-platform $$each requirements/sync-agent.txt >/dev/null || exit 1; done; \
	done

dist: .venv/installed-local $(PAGE)  ## build the wheels that a release consists of, into dist/
	@$(BIN)/python deploy/release/pin_images.py --check
	@$(BIN)/python deploy/release/make_wheels.py dist

pin: .venv/installed-local  ## name the images of others by the digests that their tags have now; asks Docker, which asks their registry
	@$(BIN)/python deploy/release/pin_images.py

sbom: .audit/installed  ## list what each service, the whole and the agent are made of, as CycloneDX, in dist/sbom/
	mkdir -p dist/sbom
	for part in local telemetry-service video-ingest-service export-service sync-agent setup; do \
		.audit/bin/cyclonedx-py requirements requirements/$$part.txt --of JSON --output-reproducible \
			-o dist/sbom/$$part.json || exit 1; done

audit: .audit/installed .venv/installed-local  ## ask PyPI for known vulnerabilities of what is locked; fails if it does not answer
	for part in local sync-agent setup build; do \
		.audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
			-r requirements/$$part.txt || exit 1; done
	@$(BIN)/python -c 'import av; print("FFmpeg, within PyAV", av.__version__ + ":", av.ffmpeg_version_info)'

openapi: .venv/installed-local  ## write the description of all addresses that the stack's proxy serves
	$(BIN)/python -m teleop_backend.openapi deploy/proxy

docs: .venv/installed-docs  ## build the documents as a site, into site/; needs no network
	rm -rf .pages
	$(BIN)/python deploy/docs/pages.py .pages
	$(BIN)/zensical build --strict

reference: .venv/installed-local  ## write the pages that are made of the sources: settings and limits
	$(BIN)/python deploy/docs/reference.py

clean:  ## remove what was installed; recorded data stays
	rm -rf .venv .uv .compose .audit .node .console services/console/node_modules $(dir $(PAGE)) .pages dist site .mypy_cache .ruff_cache .pytest_cache

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt

.compose/bin/docker-compose:
	$(PYTHON) -m venv .compose
	.compose/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/compose.txt

.node/bin/npm: requirements/node.txt
	$(PYTHON) -m venv .node
	.node/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/node.txt
	@touch $@

# Beside the sources, and not among them: it has thousands of files of others.
.console/installed: services/console/package.json services/console/package-lock.json | $(OWN_NODE)
	mkdir -p .console
	cp $^ .console/
	$(OF_NODE)npm --prefix .console ci --no-audit --no-fund --ignore-scripts --silent
	ln -sfn ../../.console/node_modules services/console/node_modules
	@touch $@

$(PAGE): .console/installed $(OF_PAGE)
	$(NPM) run --silent build
	@touch $@

.venv/bin/python: | $(filter .uv/%,$(UV))
	$(UV) venv -q --allow-existing --python "$$(cat .python-version)" .venv

# --no-deps: the requirements are whole, without what pyproject.toml leaves out.
.venv/installed-local: requirements/local.txt $(addsuffix /pyproject.toml,. $(PACKAGES)) | .venv/bin/python
	$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/local.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@

.venv/installed-docs: requirements/docs.txt | .venv/bin/python
	$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/docs.txt
	@touch $@

.venv/installed-fuzz: requirements/fuzz.txt .venv/installed-dev
	$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/fuzz.txt
	@touch $@

.audit/installed: requirements/audit.txt | $(filter .uv/%,$(UV))
	$(UV) venv -q --allow-existing --python "$$(cat .python-version)" .audit
	$(UV) pip install -q --python .audit/bin/python --no-deps --require-hashes -r requirements/audit.txt
	@touch $@

.venv/installed-dev: requirements/dev.txt .venv/installed-local tests/support/pyproject.toml
	$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements/dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e tests/support
	@touch $@
