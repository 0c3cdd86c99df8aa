"""Intercepts ConsoleMe's calls to SES's SendEmail.

ConsoleMe creates a new boto3 client for each message, always from boto3's default session. Two events of that session are
enough: at the first, the parameters are still those of ConsoleMe; at the second, returning a response prevents botocore from
signing and sending the request. Exceptions raised here propagate out of `client.send_email()`, so ConsoleMe's own checks, log
and metrics work as before.

Nothing here calls SES: after any error, the message is not sent.
"""

import sys
from typing import Any, Dict, Mapping, Tuple

import boto3
from botocore.awsrequest import AWSResponse

from consoleme_smtp.delivery import NotDelivered, Receipt, deliver
from consoleme_smtp.message import MessageError, compose, without_gaps
from consoleme_smtp.settings import SettingsError, read_settings


def install() -> None:
    """Registers the hook. May be called repeatedly: ConsoleMe does so at each reload of its configuration."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params.ses.SendEmail", keep_parameters, unique_id="consoleme-smtp-parameters")
    # First, because the first response is used.
    events.register_first("before-call.ses.SendEmail", send, unique_id="consoleme-smtp-send")


def keep_parameters(params: Mapping[str, Any], context: Dict[str, Any], **_: Any) -> Dict[str, Any]:
    parameters = dict(params)
    destination = parameters.get("Destination")
    if isinstance(destination, dict) and isinstance(destination.get("ToAddresses"), list):
        parameters["Destination"] = {**destination, "ToAddresses": without_gaps(destination["ToAddresses"])}
    context["consoleme_smtp"] = parameters
    return parameters


def send(context: Mapping[str, Any], **_: Any) -> Tuple[AWSResponse, Dict[str, Any]]:
    # Not imported at the top: this module is loaded before ConsoleMe has read its configuration. Read for each message, because
    # ConsoleMe reloads it.
    from consoleme.config import config

    try:
        settings = read_settings(config.get("smtp"))
        mail = compose(context["consoleme_smtp"], settings.send_source_arn)
        receipt = deliver(settings, mail)
    except NotDelivered as error:
        _count("lib.ses.smtp.error", {"step": error.step, "reason": error.reason})
        raise
    except (SettingsError, MessageError) as error:
        _count("lib.ses.smtp.error", {"step": "prepare", "reason": type(error).__name__})
        raise
    _report_refused(receipt, mail.unusable, context["consoleme_smtp"])
    return AWSResponse("smtp:", 200, {}, None), {"MessageId": str(receipt.reply)}


def _report_refused(receipt: Receipt, unusable: Mapping[str, str], parameters: Mapping[str, Any]) -> None:
    """Logs and counts the refused recipients of a message that others received, because the call itself succeeds."""
    from consoleme.config import config

    reasons = [*(reply.reason for reply in receipt.refused.values()), *("no address" for _ in unusable)]
    for reason in reasons:
        _count("lib.ses.smtp.refused_recipient", {"reason": reason})
    if reasons:
        config.get_logger().error(
            {
                "function": f"{__name__}.{sys._getframe().f_code.co_name}",
                "message": "Email sent, but not to all",
                "subject": parameters["Message"]["Subject"]["Data"],
                "refused": {**{path: str(reply) for path, reply in receipt.refused.items()}, **unusable},
                "response": str(receipt.reply),
            }
        )


def _count(name: str, tags: Dict[str, str]) -> None:
    from consoleme.config import config
    from consoleme.lib.plugins import get_plugin_by_name

    get_plugin_by_name(config.get("plugins.metrics", "default_metrics"))().count(name, tags=tags)
