"""Errors a caller may want to catch, one base class for all."""


class PtychoStreamError(Exception):
    """Base of every error this library raises on purpose."""


class DataContractError(PtychoStreamError, ValueError):
    """A file or array breaks the data contract; the message names file, key and values."""


class ConfigurationError(PtychoStreamError, ValueError):
    """A configuration value is out of range, or contradicts another."""


class StoreExistsError(PtychoStreamError, FileExistsError):
    """A target exists, and `overwrite` is not set."""


class MissingFileError(PtychoStreamError, FileNotFoundError):
    """A file does not exist."""


class StorageError(PtychoStreamError, OSError):
    """A disk or a remote store can't be read or written; the message says what to check."""


class ClusterError(PtychoStreamError, RuntimeError):
    """The scheduler or all workers of a cluster are gone; what was finished is kept."""


class BackendUnavailableError(PtychoStreamError, RuntimeError):
    """The chosen backend cannot be imported; the message says what to install."""


class TrainingProcessError(PtychoStreamError, RuntimeError):
    """One of several training processes died; the others have been ended."""


class MissingPartError(PtychoStreamError, ImportError):
    """An optional part is not installed; the message says how to install it."""
