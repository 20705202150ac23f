"""The version of this service. The build reads it from here, without an import."""

VERSION = "0.1.0"
