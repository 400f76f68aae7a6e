# What is installed beside the programs: units, users and folders, hooks, completions, profiles, filters.
# Included by Makefile.am. A daemon that comes along is named in daemon_units and daemon_profiles.
daemon_units = relay-in.service relay-in.socket relay-out.service postern-doctor.service postern-doctor.timer
if BUILD_EXPORTER
daemon_units += postern-exporter.service
dist_man_MANS += data/man/postern-exporter.8
dist_doc_DATA += data/monitoring/postern.rules.yml data/monitoring/grafana-dashboard.json
endif
daemon_profiles = usr.sbin.relay-in usr.sbin.relay-out

substitute = $(SED) -e 's|[@]sbindir[@]|$(sbindir)|g' -e 's|[@]sysconfdir[@]|$(sysconfdir)|g' \
  -e 's|[@]bindir[@]|$(bindir)|g' -e 's|[@]localstatedir[@]|$(localstatedir)|g' -e 's|[@]pkglibexecdir[@]|$(pkglibexecdir)|g'

# The sandbox is the same for both daemons.
sandbox = $(srcdir)/data/units/sandbox.conf
substitute_unit = $(substitute) -e '/^@SANDBOX@$$/{r $(sandbox)' -e 'd;}'
relay-in.service: $(srcdir)/data/units/relay-in.service.in $(sandbox) Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
relay-in.socket: $(srcdir)/data/units/relay-in.socket.in Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
relay-out.service: $(srcdir)/data/units/relay-out.service.in $(sandbox) Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
postern-doctor.service: $(srcdir)/data/units/postern-doctor.service.in $(sandbox) Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
postern-exporter.service: $(srcdir)/data/units/postern-exporter.service.in $(sandbox) Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
postern-doctor.timer: $(srcdir)/data/units/postern-doctor.timer.in Makefile
	$(AM_V_GEN)$(substitute_unit) $(srcdir)/data/units/$@.in > $@
if INSTALL_UNITS
systemdsystemunit_DATA = $(daemon_units)
endif

usr.sbin.relay-in: $(srcdir)/data/apparmor/relay.in Makefile
	$(AM_V_GEN)$(substitute) -e 's|[@]daemon[@]|relay-in|g' -e 's|[@]profile[@]|$@|g' \
	  -e '/\/spool\/postern/d' $(srcdir)/data/apparmor/relay.in > $@
usr.sbin.relay-out: $(srcdir)/data/apparmor/relay.in Makefile
	$(AM_V_GEN)$(substitute) -e 's|[@]daemon[@]|relay-out|g' -e 's|[@]profile[@]|$@|g' \
	  -e '/capability net_bind_service/d' $(srcdir)/data/apparmor/relay.in > $@
apparmordir = $(sysconfdir)/apparmor.d
apparmor_DATA = $(daemon_profiles)

install-certificate: $(srcdir)/data/hooks/install-certificate.in Makefile
	$(AM_V_GEN)$(substitute) $(srcdir)/data/hooks/$@.in > $@ && chmod +x $@
certbot-hook: $(srcdir)/data/hooks/certbot.in Makefile
	$(AM_V_GEN)$(substitute) $(srcdir)/data/hooks/certbot.in > $@ && chmod +x $@
acme.sh/postern.sh: $(srcdir)/data/hooks/acme.sh.in Makefile
	$(AM_V_GEN)$(MKDIR_P) acme.sh && $(substitute) $(srcdir)/data/hooks/acme.sh.in > $@
pkglibexec_SCRIPTS = install-certificate certbot-hook
acmedir = $(pkgdatadir)/acme.sh
nodist_acme_DATA = acme.sh/postern.sh

# Files whose name in the system is not their name here.
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
dist_zshcompletion_DATA = data/completion/_postern
installed_elsewhere = $(DESTDIR)$(sysusersdir)/postern.conf $(DESTDIR)$(tmpfilesdir)/postern.conf \
  $(DESTDIR)$(sysconfdir)/fail2ban/filter.d/postern.conf \
  $(DESTDIR)$(sysconfdir)/fail2ban/filter.d/postern-auth.conf $(DESTDIR)$(sysconfdir)/fail2ban/jail.d/postern.conf \
  $(DESTDIR)$(bashcompletiondir)/relayctl $(DESTDIR)$(bashcompletiondir)/relay-in \
  $(DESTDIR)$(bashcompletiondir)/relay-out

# An operator's file is never overwritten.
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(sysconfdir)/postern'
	test -e '$(DESTDIR)$(sysconfdir)/postern/relay.conf' || \
	  $(INSTALL_DATA) $(srcdir)/data/relay.conf '$(DESTDIR)$(sysconfdir)/postern/relay.conf'
	$(MKDIR_P) '$(DESTDIR)$(sysusersdir)' '$(DESTDIR)$(tmpfilesdir)' '$(DESTDIR)$(bashcompletiondir)' \
	  '$(DESTDIR)$(sysconfdir)/fail2ban/filter.d' '$(DESTDIR)$(sysconfdir)/fail2ban/jail.d'
	$(INSTALL_DATA) $(srcdir)/data/sysusers.conf '$(DESTDIR)$(sysusersdir)/postern.conf'
	$(INSTALL_DATA) $(srcdir)/data/tmpfiles.conf '$(DESTDIR)$(tmpfilesdir)/postern.conf'
	$(INSTALL_DATA) $(srcdir)/data/fail2ban/filter.conf '$(DESTDIR)$(sysconfdir)/fail2ban/filter.d/postern.conf'
	$(INSTALL_DATA) $(srcdir)/data/fail2ban/filter-auth.conf \
	  '$(DESTDIR)$(sysconfdir)/fail2ban/filter.d/postern-auth.conf'
	$(INSTALL_DATA) $(srcdir)/data/fail2ban/jail.conf '$(DESTDIR)$(sysconfdir)/fail2ban/jail.d/postern.conf'
	$(INSTALL_DATA) $(srcdir)/data/completion/postern.bash '$(DESTDIR)$(bashcompletiondir)/relayctl'
	cd '$(DESTDIR)$(bashcompletiondir)' && $(LN_S) -f relayctl relay-in && $(LN_S) -f relayctl relay-out
uninstall-local:
	rm -f $(installed_elsewhere)
	if cmp -s $(srcdir)/data/relay.conf '$(DESTDIR)$(sysconfdir)/postern/relay.conf'; then \
	  rm -f '$(DESTDIR)$(sysconfdir)/postern/relay.conf'; fi

dist_doc_DATA += data/units/socket-activation.conf
CLEANFILES += $(daemon_units) $(daemon_profiles) \
  install-certificate certbot-hook acme.sh/postern.sh
EXTRA_DIST += data/local.mk data/units/relay-in.service.in data/units/relay-in.socket.in \
  data/units/relay-out.service.in data/units/sandbox.conf \
  data/units/postern-doctor.service.in data/units/postern-doctor.timer.in data/apparmor/relay.in \
  data/hooks/install-certificate.in data/hooks/certbot.in data/hooks/acme.sh.in \
  data/sysusers.conf data/tmpfiles.conf data/fail2ban/filter.conf data/fail2ban/filter-auth.conf data/fail2ban/jail.conf \
  data/completion/postern.bash

EXTRA_DIST += data/units/postern-exporter.service.in data/man/postern-exporter.8 data/monitoring tests/exporter
EXTRA_DIST += tests/tap.sh tests/install/check.sh tests/install/init.sh tests/install/layers.sh tests/install/layers.py tests/install/names.sh tests/install/names.py tests/install/translations.sh tests/install/run.sh tests/install/offenders.py
if HAVE_GLIB
TESTS += tests/install/check.sh tests/install/init.sh tests/install/layers.sh tests/install/names.sh tests/install/run.sh tests/install/translations.sh
endif
