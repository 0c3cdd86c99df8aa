"""An SMTP backend for an unmodified ConsoleMe.

One notification, room by room: `plugin` is what ConsoleMe loads; `ses_hook` catches the call that would go to Amazon SES;
`settings` says which relay, `message` composes, `delivery` speaks SMTP.

Operators: set CONSOLEME_CONFIG_ENTRYPOINT=smtp_config. Who has a config plugin already: call `install()` in its
`get_config_location()`.
"""

from consoleme_smtp.ses_hook import install

__all__ = ["install"]
