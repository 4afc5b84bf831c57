"""The library's settings in ptychodus: generated from the configurations of ptychostream."""

from ptychodus_ext.settings.fields import Setting, key_of, settings_of
from ptychodus_ext.settings.sections import SettingsGroup, StreamSettings

__all__ = ["Setting", "SettingsGroup", "StreamSettings", "key_of", "settings_of"]
