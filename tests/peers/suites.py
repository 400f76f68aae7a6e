"""Other projects' suites: nmap's open-relay forms, and the TLS scanners. Speaks TAP.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import re
import subprocess
import sys
import xml.etree.ElementTree

import tap
from bed import CLIENT4, RELAY4, SCRIPTED_PORT, read, wait_for
from recorder import Recorder
from tap import scenario

MANY = "errors = 1000; connections_per_client = 1000;"
WEAK = re.compile(r"NULL|EXP|RC4|RC2|DES|MD5|anon|ADH|AECDH|IDEA|SEED", re.I)


def recorder(world, **more):
    backend = Recorder(SCRIPTED_PORT, **more)
    world.backends.append(backend)
    return backend


def nmap():
    return subprocess.run(["nmap", "-Pn", "-n", "--unprivileged", "-p", "25", "--script", "smtp-open-relay", RELAY4],
                          capture_output=True, text=True, timeout=120).stdout


@scenario("nmap: none of the forms of smtp-open-relay is relayed, and the script can tell")
def open_relay(world):
    backend = recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT, limits=MANY)
    out = nmap()
    assert "doesn't seem to be an open relay, all tests failed" in out, out
    forms = len(re.findall(r"NOQUEUE: reject: RCPT", read(relay.log)))
    print(f"# {forms} recipients refused")
    assert forms >= 14 and backend.messages == [] and not any(c.startswith("RCPT") for c in backend.commands)
    relay.stop()
    world.relays.remove(relay)
    # The other way round: if the script's own domain is served, it reports that.
    relay = world.relay(backend_port=SCRIPTED_PORT, limits=MANY)
    relay.write_conf(inner='domains_file = "nmap";')
    with open(f"{world.bed.dir}/nmap", "w") as file:
        file.write("nmap.scanme.org\n")
    relay.process.send_signal(1)
    wait_for("the reload", lambda: "event=reload status=done" in read(relay.log))
    out = nmap()
    assert "Server is an open relay" in out, out


@scenario("swaks: AUTH, XCLIENT and PROXY of a client that nobody trusts are refused, a pipe is not")
def swaks(world):
    backend = recorder(world)
    world.relay(backend_port=SCRIPTED_PORT, limits=MANY)
    base = ["swaks", "--server", RELAY4, "--local-interface", CLIENT4, "--from", "s@sender.example", "--to",
            "a@example.com"]
    for arguments, good in ((["--pipeline"], True), (["--protocol", "SMTP"], True),
                            (["--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"], False),
                            (["--xclient", "ADDR=10.0.0.2 NAME=trusted.example"], False),
                            (["--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "10.0.0.9",
                              "--proxy-source-port", "1", "--proxy-dest", RELAY4, "--proxy-dest-port", "25"], False)):
        result = subprocess.run([*base, *arguments], capture_output=True, text=True, timeout=60)
        assert (result.returncode == 0) == good, (arguments, result.stdout[-1500:])
    assert [m.client for m in backend.messages] == [CLIENT4, CLIENT4], backend.messages


def sslscan():
    out = subprocess.run(["sslscan", "--starttls-smtp", "--no-colour", "--xml=-", f"{RELAY4}:25"], capture_output=True,
                         text=True, timeout=300).stdout
    test = xml.etree.ElementTree.fromstring(out[out.index("<?xml"):]).find("ssltest")
    assert test is not None, out
    return test


def scan_facts(test):
    ciphers = {(c.get("sslversion"), c.get("cipher"), int(c.get("bits"))) for c in test.findall("cipher")}
    print("# " + ", ".join(sorted(f"{v} {c}" for v, c, _ in ciphers)))
    weak = [c for c in ciphers if WEAK.search(c[1]) or c[2] < 128 or c[0] not in ("TLSv1.2", "TLSv1.3")]
    enabled = [(p.get("type"), p.get("version")) for p in test.findall("protocol") if p.get("enabled") == "1"]
    assert ciphers and not weak, weak
    assert sorted(enabled) == sorted({("tls", v[4:]) for v, _, _ in ciphers}), enabled
    assert all(h.get("vulnerable") == "0" for h in test.findall("heartbleed"))
    assert all(c.get("supported") == "0" for c in test.findall("compression"))
    return ciphers


@scenario("sslscan: exactly what the priority allows is offered on the STARTTLS port")
def scan_sslscan(world):
    recorder(world)
    relay = world.relay(backend_port=SCRIPTED_PORT, limits=MANY)
    usual = scan_facts(sslscan())
    assert {v for v, _, _ in usual} == {"TLSv1.2", "TLSv1.3"}, usual
    relay.stop()
    world.relays.remove(relay)
    world.relay(backend_port=SCRIPTED_PORT, limits=MANY,
                tls='priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM";')
    strict = scan_facts(sslscan())
    assert {v for v, _, _ in strict} == {"TLSv1.3"} and all(bits == 256 for _, _, bits in strict), strict


# Findings that are true for a test certificate, and opinions about CBC suites in TLS 1.2 (LUCKY13) or about
# suites without forward secrecy, which GnuTLS's NORMAL keeps for old senders.
TOLERATED = re.compile(r"cert|DNS_CAArecord|OCSP|LUCKY13|cipherlist_OBSOLETED|cipherlist_AVERAGE|BREACH|engine_problem|"
                       r"scanTime|overall_grade|grade_cap|final_score|cipher_order|HSTS|clientsimulation", re.I)


@scenario("testssl.sh: no vulnerability, no weakness above what the priority allows")
def scan_testssl(world):
    recorder(world)
    world.relay(backend_port=SCRIPTED_PORT, limits=MANY)
    result = f"{world.bed.dir}/testssl.json"
    run = subprocess.run(["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", RELAY4,
                          "--starttls", "smtp", "--jsonfile", result, "-p", "-s", "-f", "-U", f"{RELAY4}:25"],
                         capture_output=True, text=True, timeout=900)
    with open(result) as file:
        findings = json.load(file)
    assert len(findings) > 30, run.stdout[-3000:]
    bad = [f for f in findings if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")
           and not TOLERATED.search(f["id"])]
    print(f"# {len(findings)} findings, tolerated: " +
          ", ".join(f["id"] for f in findings if f["severity"] not in ("OK", "INFO") and f not in bad))
    assert not bad, bad


if __name__ == "__main__":
    sys.exit(tap.main(with_postfix=False))
