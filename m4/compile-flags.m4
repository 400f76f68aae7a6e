# POSTERN_COMPILE_FLAGS
# Language, warnings and hardening, each flag only where compiler and linker take it. The user's own
# CFLAGS and LDFLAGS come behind these and win.
AC_DEFUN([POSTERN_TRY_CFLAG], [
  AC_MSG_CHECKING([whether $CC takes $1])
  postern_saved_cflags=$CFLAGS
  CFLAGS="$CFLAGS -Werror $1"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[]])],
    [AC_MSG_RESULT([yes]); POSTERN_CFLAGS="$POSTERN_CFLAGS $1"], [AC_MSG_RESULT([no])])
  CFLAGS=$postern_saved_cflags
])

AC_DEFUN([POSTERN_TRY_LDFLAG], [
  AC_MSG_CHECKING([whether the linker takes $1])
  postern_saved_ldflags=$LDFLAGS
  LDFLAGS="$LDFLAGS $1"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[]])],
    [AC_MSG_RESULT([yes]); POSTERN_LDFLAGS="$POSTERN_LDFLAGS $1"], [AC_MSG_RESULT([no])])
  LDFLAGS=$postern_saved_ldflags
])

AC_DEFUN([POSTERN_COMPILE_FLAGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors])],
    [], [enable_werror=no])
  AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@], [build with these (default: address,undefined)])],
    [], [enable_sanitizers=no])
  AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [count executed lines (gcov)])],
    [], [enable_coverage=no])
  AC_ARG_ENABLE([hardening], [AS_HELP_STRING([--disable-hardening], [leave the hardening flags out])],
    [], [enable_hardening=yes])

  POSTERN_CFLAGS="-std=gnu11 -pthread"
  POSTERN_LDFLAGS="-pthread"
  POSTERN_CPPFLAGS=-D_GNU_SOURCE
  for flag in -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat \
      -Wformat-security -Wpointer-arith -Wwrite-strings -Wvla; do
    POSTERN_CFLAGS="$POSTERN_CFLAGS $flag"
  done
  AS_IF([test "x$enable_werror" != xno], [POSTERN_CFLAGS="$POSTERN_CFLAGS -Werror"])

  AS_IF([test "x$enable_sanitizers" = xyes], [enable_sanitizers=address,undefined])
  AS_IF([test "x$enable_sanitizers" != xno], [
    POSTERN_CFLAGS="$POSTERN_CFLAGS -fsanitize=$enable_sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer"
    POSTERN_LDFLAGS="$POSTERN_LDFLAGS -fsanitize=$enable_sanitizers"])
  AS_IF([test "x$enable_coverage" != xno], [
    POSTERN_CFLAGS="$POSTERN_CFLAGS --coverage"; POSTERN_LDFLAGS="$POSTERN_LDFLAGS --coverage"])

  AS_IF([test "x$enable_hardening" != xno], [
    AS_IF([test "x$enable_sanitizers" = xno],
      [POSTERN_CPPFLAGS="$POSTERN_CPPFLAGS -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"])
    POSTERN_TRY_CFLAG([-fstack-protector-strong])
    POSTERN_TRY_CFLAG([-fstack-clash-protection])
    POSTERN_TRY_CFLAG([-fcf-protection])
    POSTERN_TRY_CFLAG([-fPIE])
    POSTERN_TRY_LDFLAG([-pie])
    POSTERN_TRY_LDFLAG([-Wl,-z,relro])
    POSTERN_TRY_LDFLAG([-Wl,-z,now])
    POSTERN_TRY_LDFLAG([-Wl,-z,noexecstack])])
  AC_SUBST([POSTERN_CPPFLAGS])
  AC_SUBST([POSTERN_CFLAGS])
  AC_SUBST([POSTERN_LDFLAGS])
])
