"""The config plugin: ConsoleMe's own, and the hook is in place before anything can be sent.

ConsoleMe loads it first of all, in web and Celery processes alike.
"""

import yaml
from consoleme.default_plugins.plugins.config.config import Config as DefaultConfig

from consoleme_smtp.ses_hook import install
from consoleme_smtp.settings import read_settings


class Config(DefaultConfig):
    _checked = False

    @staticmethod
    def get_config_location() -> str:
        location: str = DefaultConfig.get_config_location()
        install()
        # Once. An error at a reload would end ConsoleMe's reloading for good; there, the next mail's error tells.
        if not Config._checked:
            _check(location)
            Config._checked = True
        return location


def _check(location: str) -> None:
    """A wrong block stops the start instead of losing mail later. Where the file extends others, the rest of the block
    may be in those, a password in AWS Secrets Manager for one: then the first mail tells."""
    try:
        with open(location) as file:
            content = yaml.safe_load(file)
    except OSError:
        return  # ConsoleMe has the better words for it.
    if isinstance(content, dict) and not content.get("extends"):
        read_settings(content.get("smtp"))
