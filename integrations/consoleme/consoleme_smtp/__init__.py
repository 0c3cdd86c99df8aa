"""An SMTP backend for an unmodified ConsoleMe.

The path of one notification: ConsoleMe loads `plugin`; `ses_hook` intercepts the call to Amazon SES; `settings` reads the
configuration of the relay, `message` composes the message, `delivery` sends it over SMTP.

Operators: set CONSOLEME_CONFIG_ENTRYPOINT=smtp_config. With your own config plugin, call `install()` in its
`get_config_location()` instead.
"""

from consoleme_smtp.ses_hook import install

__all__ = ["install"]
