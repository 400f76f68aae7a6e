"""relay-in and its peers, configured for the same work: accept mail for example.com and pass it to the sink.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import glob
import os
import pwd
import shutil
import subprocess

from bed import BUILD, RELAY, SINK, Server, read, wait_for

import postfix  # of the tests, whose folder bed has put into the path

SINK_PORT, PROXY_SINK_PORT, AUTH_PORT, CLOSED_PORT = 2525, 2526, 8025, 2599
# The next hop of each domain, for relays of outbound mail. Nothing listens at "held"; packets to "dead" are lost.
DESTINATIONS = [f"d{number}.example" for number in range(10)]
DEAD = "10.9.9.9"
NEXT_HOPS = {domain: (SINK, SINK_PORT) for domain in ("example.com", *DESTINATIONS)}
NEXT_HOPS.update({"held.example": (SINK, CLOSED_PORT), "dead.example": (DEAD, SINK_PORT)})


def add_users(bed):
    """Adds the users that packages create when installed, but not when unpacked; in this mount namespace only."""
    users = (("opensmtpd", 64880), ("opensmtpq", 64881), ("Debian-exim", 64882))
    for name, form in (("passwd", "{0}:x:{1}:{1}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"),
                       ("group", "{0}:x:{1}:\n")):
        path = f"{bed.dir}/{name}"
        if os.path.exists(path):
            return
        known = read(f"/etc/{name}")
        with open(path, "w") as file:
            file.write(known + "".join(form.format(user, number) for user, number in users
                                       if f"\n{user}:" not in known))
        subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)


class RelayIn(Server):
    name = "relay-in"
    build = BUILD
    workers = 32
    extra = backend = ""

    def set_up(self):
        self.conf = self.write("relay.conf", f"""
hostname = "relay.example"; user = "nobody"; control = "";
tls = {{ certificates = ( {{ cert = "{self.bed.certificate}"; key = "{self.bed.key}"; }} ); }};
in = {{
  listen = [ "{RELAY}:{self.port}" ]; domains = [ "example.com" ]; reverse_dns = false;
  workers = {self.workers};
  backend = {{ hosts = [ "{SINK}:{SINK_PORT}" ]; identity = "xclient"; tls = "none";
              max_sessions = 2000; {self.backend} }};
  limits = {{ connections = 20000; connections_per_client = 20000; queue = 20000;
             connections_per_network = 20000; }};
  {self.extra}
}};
""")

    def command(self):
        return [f"{self.build}/relay-in", "-c", self.conf]


class Haproxy(Server):
    name = "haproxy"
    tls = False

    def set_up(self):
        self.conf = self.write("haproxy.cfg", f"""
global
    maxconn 9000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend mail
    bind {RELAY}:{self.port}
    default_backend home
backend home
    server home {SINK}:{PROXY_SINK_PORT} send-proxy-v2
""")

    def command(self):
        return ["haproxy", "-db", "-f", self.conf]


class Nginx(Server):
    name = "nginx"

    def set_up(self):
        self.conf = self.write("nginx.conf", f"""
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
user nobody nogroup;
worker_processes 1;
daemon off;
pid {self.dir}/pid;
error_log {self.dir}/error.log error;
events {{ worker_connections 9000; }}
http {{
  access_log off;
  client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t; fastcgi_temp_path {self.dir}/t;
  uwsgi_temp_path {self.dir}/t; scgi_temp_path {self.dir}/t;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{AUTH_PORT} backlog=4096;
    location / {{
      add_header Auth-Status OK; add_header Auth-Server {SINK}; add_header Auth-Port {SINK_PORT};
      return 204;
    }}
  }}
}}
mail {{
  server_name relay.example;
  auth_http 127.0.0.1:{AUTH_PORT}/;
  proxy on;
  xclient on;
  proxy_buffer 64k;
  server {{
    listen {RELAY}:{self.port} backlog=4096;
    protocol smtp;
    smtp_auth none;
    starttls on;
    ssl_certificate {self.bed.certificate};
    ssl_certificate_key {self.bed.key};
    ssl_session_tickets on;
  }}
}}
""")

    def command(self):
        return ["nginx", "-c", self.conf, "-e", f"{self.dir}/error.log"]


class Postfix(Server):
    """What all ways of using it share."""

    standing = 200
    networks = "127.0.0.1/32"

    def main(self):
        return ""

    def set_up(self):
        self.conf, self.queue = f"{self.dir}/etc", f"{self.dir}/queue"
        usual = f"""myhostname = relay.example
mynetworks = {self.networks}
inet_interfaces = {RELAY}, 127.0.0.1
inet_protocols = ipv4
relay_domains = example.com
relay_recipient_maps =
relayhost = [{SINK}]:{SINK_PORT}
smtp_host_lookup = native
smtpd_client_connection_count_limit = 0
default_process_limit = 1100
smtp_tls_security_level = none
"""
        postfix.lay_out(self.dir, f"{RELAY}:{self.port}", (self.bed.certificate, self.bed.key), (usual, self.main()))

    def command(self):
        return ["postfix", "-c", self.conf, "start-fg"]

    def stop(self):
        subprocess.run(["postfix", "-c", self.conf, "stop"], capture_output=True, timeout=60)
        super().stop()


class PostfixProxy(Postfix):
    name = "postfix-proxy"

    def main(self):
        return f"smtpd_proxy_filter = {SINK}:{SINK_PORT}"


class PostfixQueue(Postfix):
    name = "postfix-queue"
    relays_now = False

    def settle(self, seconds=120):
        def empty():
            return not any(files for queue in ("incoming", "active", "maildrop", "deferred")
                           for _, _, files in os.walk(f"{self.queue}/{queue}"))
        wait_for("Postfix's queue to empty", empty, seconds)


class Haraka(Server):
    """Needs the folder with its node_modules in POSTERN_HARAKA."""

    name = "haraka"

    def set_up(self):
        root = os.environ["POSTERN_HARAKA"]
        self.haraka = f"{root}/node_modules/Haraka"
        shutil.copytree(f"{self.haraka}/config", f"{self.dir}/config")
        self.write("config/smtp.ini", f"listen={RELAY}:{self.port}\nnodes=0\n")
        self.write("config/plugins", "tls\nrcpt_to.in_host_list\nqueue/smtp_forward\n")
        self.write("config/host_list", "example.com\n")
        self.write("config/smtp_forward.ini", f"host={SINK}\nport={SINK_PORT}\n")
        self.write("config/tls.ini", f"key={self.bed.key}\ncert={self.bed.certificate}\n")
        self.write("config/log.ini", "[main]\nlevel=WARN\n")
        self.write("config/connection.ini",
                   read(f"{self.haraka}/config/connection.ini") + "\n[max]\nbytes=209715200\n")
        self.write("config/me", "relay.example\n")
        self.write("package.json", "{}")

    def command(self):
        return ["node", f"{self.haraka}/bin/haraka", "-c", self.dir]


class OpenSmtpd(Server):
    """A queueing relay. Its programs are unpacked below POSTERN_PEERS; its paths are compiled in."""

    name = "opensmtpd"
    tls = False  # in Debian 12, its key process cannot sign with OpenSSL 3
    pipelining = False
    relays_now = False

    def set_up(self):
        root = os.environ["POSTERN_PEERS"]
        self.program = "/usr/sbin/smtpd"
        add_users(self.bed)
        self.spool = f"{self.dir}/spool/smtpd"
        os.makedirs(self.spool)
        os.chmod(f"{self.dir}/spool", 0o755)
        os.makedirs(f"{self.dir}/lib/opensmtpd/empty")
        os.mkdir(f"{self.dir}/run")
        # In this mount namespace only.
        for source, target in ((f"{self.dir}/spool", "/var/spool"),
                               (f"{self.dir}/lib", "/var/lib"), (f"{self.dir}/run", "/run"),
                               (f"{root}/usr/sbin", "/usr/local/sbin")):
            subprocess.run(["mount", "--bind", source, target], check=True)
        os.chmod(self.spool, 0o711)
        self.conf = self.write("smtpd.conf", f"""
listen on {RELAY} port {self.port} hostname relay.example
smtp max-message-size "200M"
action "home" relay host "smtp://{SINK}:{SINK_PORT}"
match from any for domain "example.com" action "home"
""", 0o600)

    def command(self):
        return ["/usr/local/sbin/smtpd", "-d", "-f", self.conf]

    def settle(self, seconds=120):
        def empty():
            return not glob.glob(f"{self.spool}/queue/*/*") and \
                not glob.glob(f"{self.spool}/incoming/*")
        wait_for("OpenSMTPD's queue to empty", empty, seconds)


class Exim(Server):
    """Cut-through delivery: a message is passed on while it arrives. Unpacked below POSTERN_PEERS."""

    name = "exim"
    standing = 200

    def set_up(self):
        add_users(self.bed)
        os.chmod(self.dir, 0o777)
        self.conf = self.write("exim.conf", f"""
primary_hostname = relay.example
local_interfaces = {RELAY}.{self.port}
daemon_smtp_ports = {self.port}
spool_directory = {self.dir}/spool
log_file_path = {self.dir}/%slog
pid_file_path = {self.dir}/pid
exim_user = nobody
exim_group = nogroup
never_users =
keep_environment =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
smtp_enforce_sync = true
message_size_limit = 200M
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = {self.bed.certificate}
tls_privatekey = {self.bed.key}
pipelining_advertise_hosts = *
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  accept domains = example.com
         control = cutthrough_delivery
  deny
begin routers
home:
  driver = manualroute
  transport = out
  route_list = * {SINK}::{SINK_PORT} byname
begin transports
out:
  driver = smtp
  hosts_avoid_tls = *
  hosts_try_chunking =
begin retry
* * F,1h,5m
""")

    def command(self):
        root = os.environ["POSTERN_PEERS"]
        libraries = f"{root}/usr/lib/x86_64-linux-gnu"
        return ["env", f"LD_LIBRARY_PATH={libraries}", f"{root}/usr/sbin/exim4", "-C", self.conf,
                "-bdf"]


class RelayOut(Server):
    """relay-out with a route to the sink for each destination."""

    name = "relay-out"
    build = BUILD
    delivery = "live"

    def set_up(self):
        self.spool, self.control = f"{self.dir}/spool", f"{self.dir}/control"
        nobody = pwd.getpwnam("nobody")
        for folder in self.spool, self.control:
            os.mkdir(folder)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        routes = ",\n    ".join(f'{{ domain = "{domain}"; next_hop = "{host}:{port}"; tls = "none"; }}'
                                for domain, (host, port) in NEXT_HOPS.items())
        self.conf = self.write("relay.conf", f"""
hostname = "relay.example"; user = "nobody"; group = "nogroup"; control = "{self.control}";
tls = {{ certificates = ( {{ cert = "{self.bed.certificate}"; key = "{self.bed.key}"; }} ); }};
out = {{
  listen = [ "{RELAY}:{self.port}" ]; allow = [ "198.51.100.0/24" ];
  routes = ( {routes} );
  delivery = "{self.delivery}"; spool = "{self.spool}"; spool_reserve = 0;
  limits = {{ connections = 20000; connections_per_client = 20000; }};
}};
""")

    def command(self):
        return [f"{self.build}/relay-out", "-c", self.conf]


class RelayOutSpool(RelayOut):
    name = "relay-out-spool"
    delivery = "spool"
    relays_now = False

    def settle(self, seconds=120):
        def empty():
            return not any(files for _, _, files in os.walk(f"{self.spool}/queue"))
        wait_for("relay-out's spool to empty", empty, seconds)


class PostfixRelayhost(PostfixQueue):
    """Postfix as the relayhost of a mail server."""

    name = "postfix-relayhost"
    networks = "127.0.0.1/32, 198.51.100.0/24"

    def main(self):
        table = "".join(f"{domain} smtp:[{host}]:{port}\n" for domain, (host, port) in NEXT_HOPS.items())
        self.write("transport", table)
        return f"transport_maps = texthash:{self.dir}/transport"


class HarakaOutbound(Haraka):
    """Its own queue, with force_routing of haraka-plugin-relay: relay_dest_domains.ini."""

    name = "haraka-outbound"
    relays_now = False

    def set_up(self):
        super().set_up()
        os.mkdir(f"{self.dir}/queue")
        self.write("config/plugins", "tls\nrelay\n")
        self.write("config/relay.ini", "[relay]\nacl=true\nforce_routing=true\ndest_domains=true\n")
        self.write("config/relay_acl_allow", "198.51.100.0/24\n")
        self.write("config/relay_dest_domains.ini", "[domains]\n" + "".join(
            f'{domain}={{"action":"continue","nexthop":"{host}:{port}"}}\n'
            for domain, (host, port) in NEXT_HOPS.items()))
        os.symlink(f"{self.haraka}/..", f"{self.dir}/node_modules")

    def settle(self, seconds=120):
        wait_for("Haraka's queue to empty", lambda: not os.listdir(f"{self.dir}/queue"), seconds)


OUTBOUND = [RelayOut, RelayOutSpool, PostfixRelayhost, HarakaOutbound]
PEERS = [Haproxy, Nginx, PostfixProxy, PostfixQueue, OpenSmtpd, Exim, Haraka]
