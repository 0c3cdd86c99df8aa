"""The config plugin: ConsoleMe's default plugin, which also installs the hook before anything can be sent.

ConsoleMe loads it before all other plugins, in web and Celery processes.
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
        # Only at the start: an error during a reload would stop all further reloads of ConsoleMe. After a reload, the next message
        # reports the error.
        if not Config._checked:
            _check(location)
            Config._checked = True
        return location


def _check(location: str) -> None:
    """Stops the start if the block is wrong, instead of losing messages later. If the file extends others, they may have the
    rest of the block (for example a password in AWS Secrets Manager): then the first message reports the error."""
    try:
        with open(location) as file:
            content = yaml.safe_load(file)
    except OSError:
        return  # ConsoleMe reports this error itself.
    if isinstance(content, dict) and not content.get("extends"):
        read_settings(content.get("smtp"))
