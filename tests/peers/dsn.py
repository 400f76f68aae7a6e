"""Reads notifications as mail programs do: by Python's email package."""
import email
import email.policy
import os
import sys

from checks import check, run_checks

FOLDER = sys.argv[1]


def load(name):
    with open(os.path.join(FOLDER, name + ".eml"), "rb") as file:
        return email.message_from_binary_file(file, policy=email.policy.default)


def parts(message):
    assert message.get_content_type() == "multipart/report", message.get_content_type()
    assert not message.defects, message.defects
    return list(message.iter_parts())


def fields(part):
    """message/delivery-status is a list of header blocks: the message's, then each recipient's."""
    if part.get_content_type() == "message/delivery-status":
        return part.get_payload()
    text = part.get_payload(decode=True)
    if text is None:  # a type that Python parses as a whole message
        text = part.get_payload()[0].as_bytes()
    blocks = [block for block in text.decode().replace("\r\n", "\n").split("\n\n") if block]
    return [email.message_from_string(block, policy=email.policy.default) for block in blocks]


@check
def every_report_is_sound():
    names = sorted(name[:-4] for name in os.listdir(FOLDER))
    assert len(names) >= 13, names
    for name in names:
        message = load(name)
        wanted = 2 if name == "no original" else 3
        assert len(parts(message)) == wanted, (name, len(parts(message)))
        assert message["Auto-Submitted"] == "auto-replied", name
        assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@relay.example.com", name
        assert message["To"].addresses[0].addr_spec.endswith("@example.com"), name
        assert message["Date"].datetime.year == 2026, name
        assert message["Message-ID"].endswith("@relay.example.com>"), name
        assert parts(message)[0].get_content_type() == "text/plain", name
        for part in parts(message):
            assert not part.defects, (name, part.defects)


@check
def failed():
    prose, status, header = parts(load("failed"))
    assert "bob@example.net" in prose.get_content() and "No such user here" in prose.get_content()
    blocks = fields(status)
    assert len(blocks) == 3
    assert blocks[0]["Reporting-MTA"] == "dns; relay.example.com"
    assert blocks[1]["Final-Recipient"] == "rfc822; bob@example.net"
    assert blocks[1]["Original-Recipient"] == "rfc822; Bob+B@example.org"
    assert blocks[1]["Action"] == "failed" and blocks[1]["Status"] == "5.1.1"
    assert blocks[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user here"
    assert blocks[2]["Status"] == "5.1.10" and blocks[2]["Remote-MTA"] is None
    assert header.get_content_type() == "text/rfc822-headers"
    returned = email.message_from_string(header.get_content(), policy=email.policy.default)
    assert returned["Subject"] == "Hello" and returned["Message-ID"] == "<1@example.com>"


@check
def returned_whole():
    returned = parts(load("failed, RET=FULL"))[2]
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_content()["Subject"] == "Hello"
    assert returned.get_content().get_content() == "Body\n.dot\n"


@check
def delayed():
    message = load("delayed, RET=FULL")
    blocks = fields(parts(message)[1])
    assert [block["Action"] for block in blocks[1:]] == ["delayed", "delayed"]
    assert [block["Status"] for block in blocks[1:]] == ["4.7.1", "4.4.7"]
    assert blocks[1]["Will-Retry-Until"] == "Thu, 26 Nov 2026 07:44:15 +0000"


@check
def relayed():
    block = fields(parts(load("relayed"))[1])[1]
    assert block["Action"] == "relayed" and block["Status"] == "2.0.0"


@check
def internationalized():
    message = load("internationalized recipient")
    prose, status, header = parts(message)
    assert "<jürgen@example.net>" in prose.get_content()
    assert status.get_content_type() == "message/global-delivery-status"
    assert header.get_content_type() == "message/global-headers"
    assert any("utf-8; jürgen@example.net" in str(block["Final-Recipient"])
               for block in fields(status))
    message = load("internationalized message")
    assert parts(message)[2].get_content_type() == "message/global"


@check
def nothing_forged():
    message = load("hostile words")
    blocks = fields(parts(message)[1])
    assert len(blocks) == 3, len(blocks)
    assert [block["Action"] for block in blocks[1:]] == ["failed", "failed"]
    assert message.get_all("Subject") == ["Your message could not be delivered"]


sys.exit(run_checks())
