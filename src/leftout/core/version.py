"""The version of leftout, which is written into every saved result."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("leftout")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
