# Packages from the tarball that "make dist" makes. Included by Makefile.am.
#   make deb    into deb/: source and binary package, checked by lintian and blhc where they are
#   make rpm    into rpm/: the same by rpmbuild, checked by rpmlint; on Debian too
EXTRA_DIST += packaging/local.mk packaging/build-deb packaging/build-rpm packaging/debian packaging/rpm

# What configure.ac says of the project, for both kinds.
described = VERSION='$(PACKAGE_VERSION)' MAINTAINER='The Postern maintainers <$(PACKAGE_BUGREPORT)>' URL='$(PACKAGE_URL)'
deb: dist
	$(described) $(srcdir)/packaging/build-deb '$(distdir).tar.xz' deb
rpm: dist
	$(described) $(srcdir)/packaging/build-rpm '$(distdir).tar.xz' rpm
.PHONY: deb rpm
# In EXTRA_DIST its name would make "make dist" run the tests first.
dist-hook:
	cp $(srcdir)/check '$(distdir)/check'
# Folders in EXTRA_DIST are taken from the build folder too; what was built there stays behind.
	cd '$(distdir)' && rm -f $(check_PROGRAMS) $(noinst_PROGRAMS) $(EXTRA_PROGRAMS) && \
	  find tests -name '*.o' -o -name '*.so' -o -name '*.pyc' -o -name '*.log' -o -name '*.trs' \
	    -o -name .dirstamp -o -name .deps -o -name __pycache__ | xargs rm -rf
