# End-to-end tests, as root on a machine that can boot a container and make network namespaces.
#   make e2e    builds the package and runs them; the root file system is cached outside of the source
E2E = booted tunnel outage
EXTRA_DIST += tests/e2e/local.mk tests/e2e/system tests/e2e/traffic.py tests/e2e/booted tests/e2e/tunnel \
  tests/e2e/outage tests/e2e/wireguard tests/e2e/delay.py tests/e2e/report.py tests/e2e/packages
e2e: all deb
	$(srcdir)/tests/install-packages $$(cat $(srcdir)/tests/e2e/packages)
	status=0; for scenario in $(E2E); do echo "== $$scenario"; \
	  POSTERN_BUILDDIR='$(abs_builddir)' $(srcdir)/tests/e2e/$$scenario || status=1; done; exit $$status
.PHONY: e2e
# Everything, as a newcomer would do it, in bare systems of the distributions that are supported; an hour for each.
DISTRIBUTIONS = bookworm trixie noble
check-distributions:
	$(srcdir)/tests/distributions/run --into distributions $(DISTRIBUTIONS)
.PHONY: check-distributions
EXTRA_DIST += tests/distributions/root tests/distributions/run
