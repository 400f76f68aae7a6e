"""The files of a Postfix instance of our own, which bed.py starts for tests and bench/servers.py for measurements.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import os
import pwd
import re
import shutil

SERVICES = """cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
pickup unix n - n 60 1 pickup
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
postlog unix-dgram n - n - 1 postlogd
"""


def without(text, keys):
    for key in keys:
        text = re.sub(rf"^{key} *=.*\n", "", text, flags=re.MULTILINE)
    return text


def lay_out(folder, listen, certificate, settings, services="", left_out=()):
    """Makes its folders below `folder`: etc, queue, data. `certificate` is a pair of paths. `settings` are blocks of
    main.cf, of which a later one replaces what earlier ones set; the usual settings in `left_out` are left out."""
    for name in ("etc", "queue", "data"):
        os.makedirs(f"{folder}/{name}")
    os.chown(f"{folder}/data", pwd.getpwnam("postfix").pw_uid, -1)
    main = f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {os.path.dirname(folder)}
mydestination =
mynetworks = 127.0.0.1/32
alias_maps =
message_size_limit = 209715200
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_tls_cert_file = {certificate[0]}
smtpd_tls_key_file = {certificate[1]}
smtpd_tls_security_level = may
smtpd_peername_lookup = no
"""
    for block in settings:
        main = without(main, re.findall(r"^(\w+) *=", block, re.MULTILINE)) + block + "\n"
    with open(f"{folder}/etc/main.cf", "w") as file:
        file.write(without(main, left_out))
    with open(f"{folder}/etc/master.cf", "w") as file:
        file.write(f"{listen} inet n - n - - smtpd\n{SERVICES}{services}")
    shutil.copy("/etc/postfix/dynamicmaps.cf", f"{folder}/etc")
