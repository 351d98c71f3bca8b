# Two commands do everything on a fresh Debian or Ubuntu with git, make and Node >= 20: `make demo` and `make test`.
.PHONY: demo test check setup
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

# A pipeline of real jobs in real microVMs against a stand-in GitLab. REPO=path runs the .gitlab-ci.yml of that repository.
demo: setup
	@bin/firerunner demo $(if $(REPO),--repo '$(REPO)') $(DEMO_OPTIONS)

# Every test; the last line says how many passed, failed and were skipped.
test:
	@scripts/setup --tests
	@vitest run $(TEST_OPTIONS)

check: setup
	@biome check --error-on-warnings . && tsc && knip

setup:
	@scripts/setup
